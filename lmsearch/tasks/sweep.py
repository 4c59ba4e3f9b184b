"""lmsearch sweep: run a task over ranges of its configuration keys, side by side, and export the best configuration."""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import optuna
import torch
from omegaconf import DictConfig

from lmsearch.config import plain_config, settings_of
from lmsearch.config_presets import choices_of
from lmsearch.context import CARDS, FREE, LEAVING_PAGES, SHARING, setting
from lmsearch.engine.devices import float32_convolutions
from lmsearch.engine.log import environment
from lmsearch.engine.memory import free_bytes
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.side_by_side import visible_gpus
from lmsearch.engine.threads import cores, using_threads
from lmsearch.errors import ConfigError, StorageError, SweepError, did_you_mean
from lmsearch.process import set_up_logging, tune_process
from lmsearch.reading import parse_yaml, read_text
from lmsearch.settings.sweep import Sweep as SweepSettings
from lmsearch.sweep.begun_on import check_files, check_samples, files_of
from lmsearch.sweep.pool import Start, gpus_apart, jobs_stay_here, local_workers, submitit_workers, supervise
from lmsearch.sweep.space import Parameter, read_parameters, read_words
from lmsearch.sweep.study import (
    ID,
    STOPPED,
    Goal,
    Pruning,
    Sweep,
    check_identity,
    check_sweep,
    delete_study,
    find_study,
    load_study,
)
from lmsearch.sweep.worker import work
from lmsearch.tasks.parts.known import configure
from lmsearch.tasks.parts.restarts import note_start, starts_over
from lmsearch.tasks.parts.run_dir import (
    MARKER,
    Claim,
    claim_on,
    folder_of,
    note_further,
    refuse_foreign,
    telling_failure,
    write_config,
)
from lmsearch.tasks.parts.samples import ON_SAMPLES
from lmsearch.tasks.parts.swept import Announcer, report
from lmsearch.trials.patience import patiently
from lmsearch.trials.storage import exclusive, note_version, recover, watched
from lmsearch.trials.watch import Watch

log = logging.getLogger(__name__)
JOURNAL = "trials.journal"  # in the run directory, where no other storage is given
WRITTEN = ("config.yaml", "results.csv", "results.json", "best.yaml")  # in the run directory
OWN_KEYS = ("run_dir", "overwrite")  # of a trial; the sweep gives them


def run(cfg: DictConfig) -> int:
    """Run the trials that are still to run, then print and write what they show."""
    settings = settings_of(SweepSettings, cfg)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sweep = make_sweep(settings)
    sweep.run_dir.make()
    if not settings.overwrite:
        refuse_foreign(sweep.run_dir.path, WRITTEN)
    start = starter(settings, sweep)  # a launcher that cannot be used is found before anything is deleted
    if starts_over(sweep.run_dir, what := f"sweep {sweep.study!r}", asked=settings.overwrite):
        with sweep.run_dir.locked():  # nobody else is at it
            start_over(sweep)
            note_start(sweep.run_dir, what)
    with sweep.run_dir.locked(shared=True):  # several commands, of several machines, may work on one sweep
        study = begin(settings, sweep)
        with telling_failure(sweep.run_dir):
            announce = Announcer(study, sweep)
            if settings.launcher == "local" and settings.workers == 1:
                work(sweep, partial(run_task, sweep), after=announce)
            else:
                supervise(study, sweep, start, workers=settings.workers, progress=announce)
            return report(study, sweep)


def make_sweep(settings: SweepSettings) -> Sweep:
    """Put the sweep together; every mistake that shows without running a trial is found here, before anything is written."""
    overrides = read_words(settings.overrides, source="overrides")
    parameters = read_ranges(settings)
    epochs = check_task(settings.task, overrides, parameters)
    goal = Goal(
        metrics=read_words(settings.metric, source="metric"),
        directions=read_words(settings.direction, source="direction") if settings.direction else (),
        file=settings.metrics_file,
    )
    if not goal.directions and len(goal.metrics) == 1:
        goal = Goal(goal.metrics, ("maximize",), goal.file)
    path = folder_of(settings, "sweep", data=settings.task)
    here = settings.launcher == "local" or jobs_stay_here(settings.submitit.cluster)
    beside = min(settings.workers, settings.trials) if here else 1
    sweep = Sweep(
        task=settings.task,
        parameters=parameters,
        overrides=overrides,
        goal=goal,
        run_dir=RunDir(path),
        storage=settings.storage or str(path / JOURNAL),
        study=settings.study or held_study(path, overwrite=settings.overwrite) or path.name or path.resolve().name,
        trials=settings.trials,
        sampler=settings.sampler,
        population=settings.population,
        seed=settings.seed,
        pruning=Pruning(settings.pruner, settings.prune_metric or goal.metrics[0], settings.prune_after, epochs),
        deadline=None if settings.timeout is None else time.time() + settings.timeout,
        threads=threads_of(settings, here=here),
        side_by_side=beside,
        gpus=gpus_of(settings, beside) if here else (),
        free=free_bytes(torch.device("cpu")),
    )
    check_sweep(sweep)
    return sweep


def gpus_of(settings: SweepSettings, beside: int) -> tuple[str, ...]:
    """Return the GPUs of this machine in groups for so many workers; none where jobs of submitit ask for none."""
    if settings.launcher == "local":
        return gpus_apart(visible_gpus(), beside)
    each = settings.submitit.gpus_per_node
    return gpus_apart(visible_gpus(), beside, each=each) if each else ()


def threads_of(settings: SweepSettings, *, here: bool) -> int:
    """Return the CPU threads of a worker: its share of the cores where all run `here`, and no more than its job may have."""
    share, of_job = max(1, cores() // settings.workers), settings.submitit.cpus_per_task
    if settings.launcher == "local":
        return share
    return min(share, of_job) if here else of_job


def read_ranges(settings: SweepSettings) -> dict[str, Parameter]:
    """Return the parameters of params_file and params."""
    found: dict[str, Parameter] = {}
    if settings.params_file is not None:
        where = f"params_file={settings.params_file!r}"
        text = read_text(Path(settings.params_file), where=where, error=SweepError)
        content = parse_yaml(text, where=where, error=SweepError)
        found |= read_parameters(content, source=str(settings.params_file))
    if settings.params is not None:
        found |= read_parameters(settings.params, source="params")
    if not found:
        raise SweepError("nothing varies: give params={key: range, ...}, such as params={optim.lr: log(1e-4,1e-1)}")
    return found


def check_task(task: str, overrides: Sequence[str], parameters: dict[str, Parameter]) -> int | None:
    """Compose the task at the ends of every range, and return the most epochs of a trial; None where that is open.

    Raises ConfigError for a task, key or value that is not accepted.
    """
    tasks = [name for name in choices_of(".") if name != "sweep"]
    if task not in tasks:
        raise ConfigError(f"task={task!r} is not a task that can be swept{did_you_mean(task, tasks)}")
    fixed = {word.partition("=")[0] for word in overrides}
    for key in (*fixed, *parameters):
        if key in OWN_KEYS:
            raise SweepError(f"{key} of a trial is set by the sweep; give the sweep its own {key}=")
    if both := sorted(fixed & parameters.keys()):
        raise SweepError(f"{both[0]} is given in params and in overrides; leave it in one of them")
    first = {key: p.probes()[0] for key, p in parameters.items()}
    epochs: list[int] = []
    for key, parameter in parameters.items():
        for value in parameter.probes():
            words = [parameters[name].word(v) for name, v in (first | {key: value}).items()]
            cfg, _ = configure(task, [*overrides, *words])
            if "run_dir" not in cfg:
                raise SweepError(f"task={task} leaves no run directory with metrics; sweep another task, such as retrain")
            epochs += [] if cfg.get("epochs") is None else [cfg.epochs]  # null: the data decide
    return max(epochs, default=None)


def start_over(sweep: Sweep) -> None:
    """Delete the study of a sweep and the folders of its trials in the run directory; raise InUseError where one is running."""
    trials = sweep.run_dir.inside("trials")
    for folder in trials.path.glob("[0-9]*"):
        with trials.inside(folder.name).locked():  # a worker may have outlived its sweep
            pass
    journal = sweep.run_dir / JOURNAL
    try:
        check_place(sweep, before=claim_on(sweep.run_dir.path, overwrite=True))
        delete_study(sweep, held=(sweep.run_dir / MARKER).exists())
    except StorageError:
        if Path(sweep.storage) != journal or held_study(sweep.run_dir.path, overwrite=True) != sweep.study:
            raise
        log.warning("%s cannot be read; it is deleted with the trials in %s", journal, sweep.run_dir)
        trials.clear()
        sweep.run_dir.remove(JOURNAL)
    sweep.run_dir.remove(MARKER)


def begin(settings: SweepSettings, sweep: Sweep) -> optuna.Study:
    """Claim the run directory, open the study and put trials of processes that died back in the queue.

    A database that does not answer is waited for, as by workers.
    """

    def opened() -> optuna.Study:
        check_place(sweep)
        with exclusive(sweep.ask_lock):
            check_place(sweep)  # another command may have claimed it by now
            return load_study(sweep)

    def claim(watch: Watch) -> None:
        with exclusive(sweep.ask_lock):
            for number in recover(study, watch=watch):
                log.warning("trial %d was cut off; its parameters are queued again", number)
            check_identity(study, sweep)
            check_files(study, sweep, files)
            Claim(f"sweep {study.user_attrs[ID]} {sweep.study}").write(sweep.run_dir)
        study.set_user_attr(STOPPED, None)
        note_version(study)

    study, files = patiently(opened), files_of(sweep)
    watch = patiently(partial(watched, study))  # which may take a while
    patiently(partial(claim, watch))
    note_further(sweep.run_dir, settings, "trials")
    write_config(sweep.run_dir, settings)
    sweep.run_dir.write_json("environment.json", environment(sweep.seed))
    return study


def check_place(sweep: Sweep, *, before: Claim | None = None) -> None:
    """Raise SweepError where the run directory holds another run, or the trials of another study."""
    before = Claim.read(sweep.run_dir.path) if before is None else before
    if not before.run:
        return
    held = held_study(sweep.run_dir.path)
    if held is None:
        raise SweepError(f"{sweep.run_dir} holds another run; choose another run_dir=")
    study = find_study(sweep)
    if study is None or before.run.split(" ")[1] != study.user_attrs.get(ID):
        where = " in another storage, or that was deleted" if held == sweep.study else ""
        raise SweepError(f"{sweep.run_dir} holds the trials of another study, {held!r}{where}; choose another run_dir=")


def held_study(run_dir: Path, *, overwrite: bool = False) -> str | None:
    """Return the name of the study whose trials a run directory holds, or None where it holds none."""
    before = claim_on(run_dir, overwrite=overwrite)
    return before.run.split(" ", 2)[2] if before.task == "sweep" else None


def starter(settings: SweepSettings, sweep: Sweep) -> Start:
    """Return what starts a worker."""
    if settings.launcher == "local":
        return local_workers(sweep, run_worker)
    options = dict(vars(settings.submitit))
    return submitit_workers(sweep, run_worker, cluster=options.pop("cluster"), options=options)


def run_worker(sweep: Sweep, name: str) -> None:
    """What a process or job does: set itself up and run trials."""
    tune_process()
    set_up_logging()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "OMP_NUM_THREADS" not in os.environ and sweep.threads is not None:
        torch.set_num_threads(sweep.threads)
    with (
        float32_convolutions(),
        setting(SHARING, sweep.side_by_side),
        setting(CARDS, max(1, len(sweep.gpus))),
        setting(FREE, sweep.free),
    ):
        work(sweep, partial(run_task, sweep), name=name)


def run_task(sweep: Sweep, task: str, words: Sequence[str], folder: RunDir) -> None:
    """Run a task with `folder` as its run directory; what it prints goes to output.txt there.

    A process that was taken for dead may still be at this trial: it is waited for, and what it has done counts. Raises SweepError
    where the samples are not those of the trials before.
    """
    cfg, lines = configure(task, [*words, f"run_dir={folder}"])
    with folder.locked(wait=True):
        pass
    threads = using_threads(cfg.get("threads"))
    data = {key: value for key, value in plain_config(cfg).items() if key in ("data", "head")}
    hearing = setting(ON_SAMPLES, partial(check_samples, sweep, data))
    with folder.output("output.txt") as file, redirect_stdout(file), threads, setting(LEAVING_PAGES, False), hearing:
        for line in lines:
            print(line)
        importlib.import_module(f"lmsearch.tasks.{task}").run(cfg)
