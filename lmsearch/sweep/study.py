"""A sweep, and its Optuna study: storage, samplers and pruners."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from lmsearch.engine.run_dir import TRIAL, RunDir
from lmsearch.errors import SweepError
from lmsearch.reading import object_in
from lmsearch.sweep.space import Parameter
from lmsearch.trials.storage import RETRY_OF, counted, open_storage, origin, refuse_running

IDENTITY, STOPPED, ID = "lmsearch sweep", "stopped", "id"  # attributes of the study
SKIPPING = "seeds skip retries"  # attribute of a study of which `seed_number` counts no retries; not of studies of before
FOLDER = "run_dir"  # attribute of a trial: the folder that it ran in, as its machine names it
FAILED = "failed"  # attribute of a trial that failed, which is pruned to Optuna
PRUNER_STARTUP = 5  # trials that the median pruner watches before it ends one
SMALLEST_GENERATION, LARGEST_GENERATION = 4, 50


@dataclass(frozen=True)
class Goal:
    """What is optimised: one or two numbers of a file in each run directory, and which way."""

    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    file: str = "metrics.json"


@dataclass(frozen=True)
class Pruning:
    """When a trial is ended early: by which logged value, after how many epochs; max_epochs is the longest trial's."""

    method: str = "none"
    metric: str = ""
    after: int = 1
    max_epochs: int | None = None


@dataclass(frozen=True)
class Sweep:
    """A sweep: all that a worker, here or on another machine, needs to know."""

    task: str
    parameters: dict[str, Parameter]
    overrides: tuple[str, ...]
    goal: Goal
    run_dir: RunDir
    storage: str
    study: str
    trials: int
    sampler: str = "tpe"
    population: int | None = None
    seed: int = 0
    pruning: Pruning = Pruning()
    deadline: float | None = None  # seconds since the epoch
    threads: int | None = None  # CPU threads of a worker; None: as many as there are cores
    side_by_side: int = 1  # workers that this machine is known to have at a time
    gpus: tuple[str, ...] = ()  # groups of GPUs over which they are spread, as CUDA_VISIBLE_DEVICES names them
    free: int | None = None  # bytes of memory that it had before they started

    @property
    def ask_lock(self) -> Path:
        """The file whose lock lets one process at a time ask for a trial."""
        return self.run_dir / "ask"

    def identity(self) -> dict:
        """Return what makes trials comparable: trials of another identity do not belong in this study."""
        ranges = {name: repr(p.distribution) for name, p in sorted(self.parameters.items())}
        goal = {"metrics": list(self.goal.metrics), "directions": list(self.goal.directions), "file": self.goal.file}
        return {"task": self.task, "params": ranges, "overrides": list(self.overrides), "goal": goal}

    def folder(self, number: int) -> RunDir:
        """Return the run directory of a trial that runs here."""
        return self.run_dir.inside("trials").inside(f"{number:04d}")

    def folder_of(self, trial: FrozenTrial) -> str:
        """Return the run directory that a trial ran in: here, also after run_dir was moved, or where another caller has it.

        What lies where run_dir was before may be of another sweep by now.
        """
        here, recorded = self.folder(origin(trial)).path, trial.user_attrs.get(FOLDER)
        if recorded is None or Path(recorded).resolve() == here.resolve():
            return str(here)
        return str(here) if tells_of(here / TRIAL, trial) or (here.exists() and not Path(recorded).exists()) else recorded


def tells_of(path: Path, trial: FrozenTrial) -> bool:
    """Tell whether a trial.json is there and has the parameters of this trial, or of the one that tried it again."""
    return object_in(path).get("params") == trial.params


def check_sweep(sweep: Sweep) -> None:
    """Raise SweepError for options that contradict each other."""
    goal, pruning = sweep.goal, sweep.pruning
    if len(goal.metrics) not in (1, 2) or len(set(goal.metrics)) < len(goal.metrics):
        raise SweepError(f"metric={','.join(goal.metrics)} is not accepted; expected one metric, or two different ones as [a,b]")
    if len(goal.directions) != len(goal.metrics):
        given = ", ".join(goal.directions) or "none"
        raise SweepError(f"direction= needs maximize or minimize for each metric, as [a,b] for two; got {given}")
    for word in goal.directions:
        if word not in ("maximize", "minimize"):
            raise SweepError(f"direction={word!r} is not accepted; accepted: maximize, minimize")
    if pruning.method != "none" and len(goal.metrics) == 2:
        raise SweepError(f"pruner={pruning.method} cannot judge two metrics; take pruner=none, or one metric")
    if pruning.method != "none" and sweep.sampler == "nsga2":
        raise SweepError(f"pruner={pruning.method} contradicts sampler=nsga2, which needs whole trials; take one or the other")
    if sweep.population is not None and sweep.sampler != "nsga2":
        raise SweepError(f"population={sweep.population} is of sampler=nsga2; sampler={sweep.sampler} has no generations")
    if pruning.method == "hyperband" and pruning.max_epochs is None:
        raise SweepError(f"pruner=hyperband needs a task with epochs; lmsearch {sweep.task} has none")


def open_study(sweep: Sweep) -> optuna.Study:
    """Open the study of a sweep, new or from an earlier call; raise SweepError where the study there is of another sweep."""
    study = load_study(sweep)
    check_identity(study, sweep)
    return study


def load_study(sweep: Sweep) -> optuna.Study:
    """Return the study of a sweep's name, new or of whatever sweep."""
    study = optuna.create_study(
        storage=open_storage(sweep.storage),
        study_name=sweep.study,
        directions=[StudyDirection[way.upper()] for way in sweep.goal.directions],
        pruner=build_pruner(sweep.pruning),
        load_if_exists=True,
    )
    if ID not in study.user_attrs:
        study.set_user_attr(SKIPPING, not study.get_trials(deepcopy=False))
        study.set_user_attr(ID, secrets.token_hex(8))
    return study


def check_identity(study: optuna.Study, sweep: Sweep) -> None:
    """Note on a new study which sweep it is of; raise SweepError where it is of another one.

    The metric may change until a trial was judged by it: one that was mistyped is put right by giving another.
    """
    found, mine = study.user_attrs.get(IDENTITY), sweep.identity()
    if found == mine:
        return
    which = [name for name, value in mine.items() if (found or {}).get(name) != value]
    trials = study.get_trials(deepcopy=False)
    new, states = found is None and not trials, {trial.state for trial in trials if FAILED not in trial.user_attrs}
    unjudged = which == ["goal"] and not states & {TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING}
    if (new or unjudged) and [d.name.lower() for d in study.directions] == list(sweep.goal.directions):
        study.set_user_attr(IDENTITY, mine)
        return
    words = " and ".join("metric, direction or metrics_file" if name == "goal" else name for name in which)
    raise SweepError(
        f"study {sweep.study!r} is another sweep, with other {words}; choose another run_dir=, or overwrite=true to start over"
    )


def find_study(sweep: Sweep) -> optuna.Study | None:
    """Return the study of a sweep's name, or None where its storage has none."""
    storage = open_storage(sweep.storage)
    known = sweep.study in optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=sweep.study, storage=storage) if known else None


def delete_study(sweep: Sweep, *, held: bool) -> None:
    """Delete the study of a sweep, if there is one, and the folders of its trials in run_dir; no other folder.

    `held`: run_dir is known to hold this study, so that its trials are there also where they recorded another place before, at
    which a copy of them or another sweep may be by now. Raises InUseError where a trial is running, in whichever folder.
    """
    study = find_study(sweep)
    if study is None:
        return
    refuse_running(study)
    for trial in study.get_trials(deepcopy=False):
        here, recorded = sweep.folder(origin(trial)), trial.user_attrs.get(FOLDER)
        if recorded is not None and (held or Path(recorded).resolve() == here.path.resolve()):
            here.clear()
    optuna.delete_study(study_name=sweep.study, storage=study._storage)


def build_sampler(sweep: Sweep, number: int) -> BaseSampler:
    """Return the sampler that draws the trial of this `seed_number`: no two workers draw alike, nor does a sweep that goes on."""
    seed = int(np.random.SeedSequence([sweep.seed, number]).generate_state(1)[0])
    if sweep.sampler == "random":
        return RandomSampler(seed=seed)
    if sweep.sampler == "nsga2":
        size = sweep.population or min(max(sweep.trials // 4, SMALLEST_GENERATION), LARGEST_GENERATION)
        return NSGAIISampler(population_size=size, seed=seed)
    return TPESampler(seed=seed)


def seed_number(study: optuna.Study, trial: FrozenTrial) -> int:
    """Return the number that a trial would have in a sweep that nothing ever stopped, where no trial is tried again."""
    storage, known = study._storage, study._study_id  # what hyperband gives is a study of its bracket, without attributes
    if not storage.get_study_user_attrs(known).get(SKIPPING):
        return trial.number
    number = origin(trial)
    return number - sum(RETRY_OF in t.user_attrs and t.number < number for t in storage.get_all_trials(known, deepcopy=False))


class SeededByTrial(BaseSampler):
    """Draws every trial by a sampler of its own, seeded by its number, which the storage gives out only once.

    So workers draw otherwise than each other also on machines that share nothing but the storage. Retries do not count, so that
    a sweep that was stopped draws what one draws that was not.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.known = sweep, dict[int, BaseSampler]()

    def of(self, study: optuna.Study, trial: FrozenTrial) -> BaseSampler:
        """Return the sampler of a trial."""
        if trial.number not in self.known:
            self.known[trial.number] = build_sampler(self.sweep, seed_number(study, trial))
        return self.known[trial.number]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.of(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.of(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.of(study, trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.of(study, trial).before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self.of(study, trial).after_trial(study, trial, state, values)


def build_pruner(pruning: Pruning) -> BasePruner:
    """Return the pruner; its steps are finished epochs."""
    if pruning.method == "median":
        return MedianPruner(n_startup_trials=PRUNER_STARTUP, n_warmup_steps=pruning.after)
    if pruning.method == "hyperband":
        return HyperbandPruner(
            min_resource=pruning.after, max_resource="auto" if pruning.max_epochs is None else pruning.max_epochs
        )
    return NopPruner()


def work_left(study: optuna.Study, sweep: Sweep) -> bool:
    """Tell whether another trial may start."""
    in_time = sweep.deadline is None or time.time() < sweep.deadline
    return in_time and not study.user_attrs.get(STOPPED) and len(counted(study)) < sweep.trials


def retried(trials: list[FrozenTrial]) -> set[int]:
    """Return the numbers of the lost trials that were queued again."""
    return {t.user_attrs[RETRY_OF] for t in trials if RETRY_OF in t.user_attrs}
