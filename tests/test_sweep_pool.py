"""Several workers of one sweep: processes and jobs share the trials, and a worker that is killed loses none."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from lmsearch.engine.checkpoint import save_checkpoint
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import DataError, SweepError
from lmsearch.interrupts import Stopped, answering_signals
from lmsearch.sweep import pool
from lmsearch.sweep.pool import OnGpus, Worker, gpus_apart, local_workers, submitit_workers, supervise
from lmsearch.sweep.results import rows_of
from lmsearch.sweep.space import Parameter
from lmsearch.sweep.study import Goal, SeededByTrial, Sweep, build_sampler, open_study
from lmsearch.sweep.worker import work
from lmsearch.trials.storage import DIED, LOST, WORKER, _born, abandon, ask, recover

FROM_ONE = multiprocessing.get_context("forkserver")  # processes of a process that has imported what they need


def sweep_of(run_dir: Path, *, trials: int, metric: str = "x") -> Sweep:
    """Return a sweep over one number; its task is one of the functions below."""
    return Sweep(
        task="none",
        parameters={"x": Parameter("x", FloatDistribution(0.0, 1.0))},
        overrides=(),
        goal=Goal((metric,), ("maximize",)),
        run_dir=RunDir(run_dir),
        storage=str(run_dir / "trials.journal"),
        study="test",
        trials=trials,
        sampler="random",
    )


def write_x(task: str, words: Sequence[str], folder: RunDir) -> None:
    """A task that gives its parameter back, and the GPUs that it sees."""
    (folder / "gpus").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    (folder / "metrics.json").write_text(json.dumps({"x": float(words[0].partition("=")[2])}))


def hang_once(task: str, words: Sequence[str], folder: RunDir) -> None:
    """A task that takes for ever in the first trial, unless it is tried again."""
    if folder.path.name == "0000" and not (folder / "hanging").exists():
        (folder / "hanging").touch()
        time.sleep(1000)
    write_x(task, words, folder)


def quick(sweep: Sweep, name: str) -> None:
    """A worker whose trials end at once."""
    work(sweep, write_x, name=name)


def hanging(sweep: Sweep, name: str) -> None:
    """A worker that hangs in the first trial."""
    work(sweep, hang_once, name=name)


def wait_once(task: str, words: Sequence[str], folder: RunDir) -> None:
    """A task that waits for the file "go" in the first trial."""
    if folder.path.name == "0000":
        (folder / "hanging").touch()
        until((folder / "go").exists)
    write_x(task, words, folder)


def waiting(sweep: Sweep, name: str) -> None:
    """A worker that waits in the first trial."""
    work(sweep, wait_once, name=name)


def call(sweep: Sweep, worker: Callable[[Sweep, str], None]) -> None:
    """What the command does: one worker at the trials of a sweep."""
    with answering_signals():
        supervise(open_study(sweep), sweep, local_workers(sweep, worker), workers=1, progress=lambda: None)


def begun(sweep: Sweep, worker: Callable[[Sweep, str], None]) -> tuple[BaseProcess, int]:
    """Start a call in a process and wait until its worker is in the first trial; return it and the id of the worker."""
    process = FROM_ONE.Process(target=call, args=(sweep, worker))
    process.start()
    until(lambda: (sweep.folder(0) / "hanging").exists() or not process.is_alive())
    assert process.is_alive()
    return process, open_study(sweep).trials[0].user_attrs[WORKER]["pid"]


def until(there: Callable[[], bool]) -> None:
    """Wait for something to be so."""
    while not there():
        time.sleep(0.02)


def stillborn(sweep: Sweep, name: str) -> None:
    """A worker that dies before it takes a trial."""
    raise DataError("cannot start")


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start workers from a process that has imported PyTorch and Optuna, which takes each of them seconds otherwise."""
    monkeypatch.setattr(pool, "multiprocessing", SimpleNamespace(get_context=lambda method: FROM_ONE))


def test_workers_share_the_trials_and_run_no_more_than_asked_for(tmp_path: Path) -> None:
    sweep = replace(sweep_of(tmp_path, trials=7), gpus=("4", "5"))
    study = open_study(sweep)
    supervise(study, sweep, local_workers(sweep, quick), workers=2, progress=lambda: None)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 7
    assert len({t.params["x"] for t in study.trials}) == 7, "no two workers draw alike"
    assert {file.read_text() for file in tmp_path.rglob("gpus")} <= {"4", "5"}, "each has one GPU"


@pytest.mark.parametrize(
    ("gpus", "workers", "each", "groups"),
    [
        ("01234567", 2, None, ("0,1,2,3", "4,5,6,7")),
        ("01234567", 3, None, ("0,1", "2,3", "4,5", "6,7")),
        ("45", 4, None, ("4", "5")),
        ("01234567", 8, 4, ("0,1,2,3", "4,5,6,7")),
        ("0", 2, 2, ()),
        ("", 2, None, ()),
    ],
)
def test_gpus_are_shared_out_in_groups(gpus: str, workers: int, each: int | None, groups: tuple[str, ...]) -> None:
    assert gpus_apart(tuple(gpus), workers, each=each) == groups


def test_a_worker_gets_the_gpu_with_the_fewest_at_work() -> None:
    ended, crew = set[str](), OnGpus(("4", "5"))

    def start(name: str) -> str:
        worker = Worker(name, Path(), ended=lambda: name in ended, problem=lambda: None, terminate=list, join=list)
        gpu = crew.emptiest()
        crew.add(worker, gpu)
        return str(gpu)

    assert [start(name) for name in "abc"] == ["4", "5", "4"]
    ended |= {"a", "c"}
    assert start("d") == "4" and OnGpus(()).emptiest() is None


@pytest.mark.usefixtures("prepared")
def test_a_killed_worker_is_replaced_and_its_trial_runs_again(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, trials=3)
    study = open_study(sweep)
    killed: list[int] = []

    def kill() -> None:
        if not killed and (sweep.folder(0) / "hanging").exists():
            killed.append(study.trials[0].user_attrs[WORKER]["pid"])
            os.kill(killed[0], signal.SIGKILL)

    supervise(study, sweep, local_workers(sweep, hanging), workers=2, progress=kill)
    lost, *others = study.trials
    assert killed and lost.state == TrialState.FAIL and lost.user_attrs[LOST] == "its process died"
    again = next(t for t in others if t.params == lost.params)
    assert [t.state for t in others] == [TrialState.COMPLETE] * 3
    assert {row.number: row.state for row in rows_of(study, sweep)}[0] == "queued again"
    assert json.loads((sweep.folder(0) / "trial.json").read_text())["trial"] == again.number


@pytest.mark.usefixtures("prepared")
def test_a_worker_that_cannot_start_ends_the_sweep_with_one_line(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, trials=2)
    with pytest.raises(SweepError, match="a worker died before it took a trial \\(exit code 1\\); see") as raised:
        supervise(open_study(sweep), sweep, local_workers(sweep, stillborn), workers=1, progress=lambda: None)
    log_file = Path(str(raised.value).rpartition("see ")[2])
    assert "cannot start" in log_file.read_text()


@pytest.mark.usefixtures("prepared")
def test_a_worker_that_finds_no_metric_stops_all_of_them(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, trials=50, metric="y")
    study = open_study(sweep)
    with pytest.raises(SweepError, match="metric='y' is not in metrics.json; there are: x"):
        supervise(study, sweep, local_workers(sweep, quick), workers=2, progress=lambda: None)
    assert len(study.trials) < 10


@pytest.mark.usefixtures("prepared")
def test_an_interrupt_gives_the_running_trial_back(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, trials=1)
    study = open_study(sweep)

    def interrupt() -> None:
        if (sweep.folder(0) / "hanging").exists():
            os.kill(study.trials[0].user_attrs[WORKER]["pid"], signal.SIGINT)  # as the keyboard does
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervise(study, sweep, local_workers(sweep, hanging), workers=1, progress=interrupt)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.trials[0].user_attrs[LOST] == "interrupted"


def test_an_interrupt_that_no_worker_hears_waits_for_all_of_them_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names, did, sweep = iter("ab"), list[str](), sweep_of(tmp_path, trials=2)
    caplog.set_level("INFO")
    monkeypatch.setattr(pool, "POLL_S", 0.01)
    monkeypatch.setattr(pool, "STOP_WAIT_S", 0.2)

    def start() -> Worker:
        name, ends = next(names), [partial(did.append, what) for what in ("terminate", "join")]
        return Worker(name, Path(), lambda: "terminate" in did, lambda: None, *ends, hears=True)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervise(open_study(sweep), sweep, start, workers=2, progress=interrupt)
    assert did == ["terminate", "terminate", "join", "join"]
    assert "waiting for 2 workers, which give their trials back, for 0.2 s at most" in caplog.text
    assert caplog.text.count("waiting for") == 1


def test_sigterm_ends_the_workers_and_gives_their_trials_back(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, trials=2)
    parent, worker = begun(sweep, hanging)
    parent.terminate()
    parent.join()
    assert parent.exitcode not in (0, None) and _born(worker) is None
    study = open_study(sweep)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.trials[0].user_attrs[LOST] == "interrupted"


def test_sigterm_gives_back_the_trial_of_a_call_without_workers(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, trials=2)
    study = open_study(sweep)

    def terminated(task: str, words: Sequence[str], folder: RunDir) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1000)

    with pytest.raises(Stopped), answering_signals():
        work(sweep, terminated)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_worker_whose_parent_was_killed_ends_its_trial_and_takes_no_other(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, trials=5)
    parent, worker = begun(sweep, waiting)
    parent.kill()
    parent.join()
    (sweep.folder(0) / "go").touch()
    until(lambda: _born(worker) is None)
    assert [t.state for t in open_study(sweep).trials] == [TrialState.COMPLETE]


def test_a_trial_that_gets_on_may_be_killed_any_number_of_times(tmp_path: Path) -> None:
    sweep, steps = sweep_of(tmp_path, trials=1), iter(range(1, 5))

    def killed(task: str, words: Sequence[str], folder: RunDir) -> None:
        folder.inside("parts").make()
        save_checkpoint(folder.inside("parts"), {"epoch": 0, "step": next(steps)})
        raise GeneratorExit  # which nobody answers

    for _ in range(4):
        with pytest.raises(GeneratorExit):
            work(sweep, killed, name="mine")
        recover(open_study(sweep), gone=["mine"])
    work(sweep, write_x)
    assert [t.state for t in open_study(sweep).trials] == [TrialState.FAIL] * 4 + [TrialState.COMPLETE]


def test_a_trial_that_another_machine_took_for_lost_is_left_to_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = sweep_of(tmp_path, trials=1)
    study, runs = open_study(sweep), []

    def slow(task: str, words: Sequence[str], folder: RunDir) -> None:
        runs.append(folder)
        if len(runs) == 1:
            abandon(study, study.trials[0], reason=DIED)
        elif len(runs) == 2:
            abandon(study, study.trials[1], reason=DIED)
            raise DataError("its files are gone")
        write_x(task, words, folder)

    work(sweep, slow)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE]
    assert caplog.text.count("given to another worker") == 2


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_machines_that_share_nothing_but_the_storage_draw_otherwise(sampler: str, tmp_path: Path) -> None:
    sweeps = [
        replace(sweep_of(tmp_path / name, trials=9), storage=str(tmp_path / "trials.journal"), sampler=sampler) for name in "ab"
    ]
    studies = [open_study(sweep) for sweep in sweeps]
    for study, sweep in zip(studies, sweeps, strict=True):
        study.sampler = SeededByTrial(sweep)  # both have looked before either has asked
    drawn = [ask(study, {"x": FloatDistribution(0.0, 1.0)}).params["x"] for study in studies]
    alone = open_study(replace(sweeps[0], storage=str(tmp_path / "alone.journal")))
    for number, x in enumerate(drawn):
        alone.sampler = build_sampler(sweeps[0], number)
        assert ask(alone, {"x": FloatDistribution(0.0, 1.0)}).params["x"] == x, "as one machine alone draws"
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("sampler", ["random", "nsga2"])
def test_a_sweep_that_was_stopped_draws_as_one_that_was_not(sampler: str, tmp_path: Path) -> None:
    def drawn(name: str, *stopped: str) -> list[float]:
        sweep, runs, left = replace(sweep_of(tmp_path / name, trials=5), sampler=sampler), list[float](), list(stopped)
        study = open_study(sweep)

        def run(task: str, words: Sequence[str], folder: RunDir) -> None:
            if left and folder.path.name == left[0]:
                left.pop(0)
                raise KeyboardInterrupt
            runs.append(float(words[0].partition("=")[2]))
            write_x(task, words, folder)

        for _ in stopped:
            with pytest.raises(KeyboardInterrupt):
                work(sweep, run)
        work(sweep, run)
        assert len(study.trials) == 5 + len(stopped)
        return runs

    whole = drawn("whole")
    assert drawn("cut", "0000", "0002") == whole and len(set(whole)) == 5


def test_jobs_of_submitit_run_the_trials_on_gpus_of_this_process(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="needs submitit (the extra `ops`)")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the job knows lmsearch, not the tests
    sweep = replace(sweep_of(tmp_path, trials=2), gpus=("4", "5"))
    study = open_study(sweep)
    options = {"timeout_min": 5, "gpus_per_node": 1, "slurm_partition": None}
    start = submitit_workers(sweep, quick, cluster="local", options=options)
    supervise(study, sweep, start, workers=1, progress=lambda: None)
    assert {file.read_text() for file in tmp_path.rglob("gpus")} == {"4"}, "submitit gives every job GPU 0"
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 2


def test_jobs_of_slurm_hand_their_cpus_on_to_what_srun_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="needs submitit (the extra `ops`)")
    for name, does in (("srun", "exit 0"), ("sbatch", f"cp $1 {tmp_path / 'script'}; echo Submitted batch job 7")):
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    submitit_workers(sweep_of(tmp_path / "run", trials=1), quick, cluster="slurm", options={"cpus_per_task": 3})()
    lines = (tmp_path / "script").read_text().splitlines()
    (told,) = [place for place, line in enumerate(lines) if line == "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"]
    (begun,) = [place for place, line in enumerate(lines) if line.startswith("srun ")]
    assert "#SBATCH --cpus-per-task=3" in lines and told < begun


def test_a_job_of_submitit_that_fails_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="needs submitit (the extra `ops`)")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    sweep = sweep_of(tmp_path, trials=1)
    start = submitit_workers(sweep, stillborn, cluster="local", options={"timeout_min": 5})
    with pytest.raises(SweepError, match="a worker died before it took a trial \\(job .* failed\\); see") as raised:
        supervise(open_study(sweep), sweep, start, workers=1, progress=lambda: None)
    assert "cannot start" in Path(str(raised.value).rpartition("see ")[2]).read_text()


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Let the process that others are started from import what they need."""
    FROM_ONE.set_forkserver_preload(["lmsearch.sweep.pool", "lmsearch.sweep.worker", "cloudpickle", "pytest"])


@pytest.fixture(autouse=True)
def quiet() -> None:
    """Keep Optuna's log lines of every trial away."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
