"""Ask and tell over one storage: the trials of a discrete search, whichever strategy proposes them.

Optuna's storage holds one whole number per layer and trial (search/discrete/architectures.py) and, beside it, the directions by
name, the loss and the cost. A killed search goes on with the trial that it was killed in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from functools import partial

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from lmsearch.engine.randomness import key
from lmsearch.errors import ConfigError, did_you_mean
from lmsearch.search.discrete.architectures import Architecture, ArchitectureSpace
from lmsearch.search.discrete.evaluators import Evaluation
from lmsearch.search.discrete.optuna_strategies import Numbers, nsga2, tpe
from lmsearch.search.discrete.strategies import Evolution, History, LocalSearch, RandomSearch, Strategy, Tried
from lmsearch.trials.patience import patiently
from lmsearch.trials.storage import abandon, ask, beating, counted, note_version, origin, recover, watched

METHODS = ("random", "local", "evolution", "tpe", "nsga2")
RETRIES = 10  # an architecture whose evaluation was cut off is tried again this many times
RESULT = "result"  # user attribute of a trial: its evaluation, directions by name, seconds


def build_strategy(method: str, *, population: int, tournament: int) -> Strategy:
    """Return a strategy by name; `population` is that of evolution and nsga2, `tournament` that of evolution."""
    makers: dict[str, Callable[[], Strategy]] = {
        "random": RandomSearch,
        "local": LocalSearch,
        "evolution": lambda: Evolution(population, tournament),
        "tpe": tpe,
        "nsga2": lambda: nsga2(population),
    }
    if method not in makers:
        raise ConfigError(f"search.method={method!r} is not a discrete strategy{did_you_mean(method, makers)}")
    return makers[method]()


@dataclass(frozen=True)
class Trial:
    """One evaluated architecture; `number` is the place of its first try in the storage."""

    number: int
    architecture: Architecture
    evaluation: Evaluation
    second: float | None
    seconds: float


class DiscreteSearch:
    """What was tried, and what to try next: architecture = ask(), then tell(architecture, evaluation)."""

    def __init__(
        self,
        storage: BaseStorage | None,
        name: str,
        space: ArchitectureSpace,
        strategy: Strategy,
        *,
        seed: int,
        second: Callable[[Architecture], float] | None = None,
    ) -> None:
        """Open the study `name` in `storage` (None: in memory), or start it; `second` measures a second objective, to be small.

        Trials that a dead process left behind are queued again.
        """
        self.space, self.strategy, self.seed, self.second, self.code = space, strategy, seed, second, Numbers()
        directions = [StudyDirection.MAXIMIZE] if second is None else [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
        begin = partial(optuna.create_study, storage=storage, study_name=name, directions=directions, load_if_exists=True)
        self.study = patiently(begin)
        self.open: list[tuple[Architecture, optuna.Trial, float]] = []
        watch = patiently(partial(watched, self.study))
        patiently(partial(recover, self.study, retries=RETRIES, watch=watch))
        self.versions = patiently(partial(note_version, self.study))

    def ask(self) -> Architecture:
        """Return the architecture to evaluate next; the history must not be exhausted."""
        history = self.history()
        rng = np.random.default_rng(key(self.seed, "proposal", len(history.taken)))
        distributions = self.code.distributions(self.space)
        proposed = self.code.encode(self.space, self.strategy.propose(history, rng))
        self.study.sampler = _Proposal(distributions, proposed)  # a trial that is queued again keeps its own
        trial = patiently(partial(ask, self.study, distributions, begun=[]))
        architecture = self.code.decode(self.space, trial.params)
        self.open.append((architecture, trial, time.perf_counter()))
        return architecture

    def evaluating(self, architecture: Architecture) -> AbstractContextManager[None]:
        """Return a block during which machines that share the storage see that an architecture is being evaluated."""
        return beating(self.open[self._place(architecture)][1])

    def tell(self, architecture: Architecture, evaluation: Evaluation) -> bool:
        """Store the result of an architecture that was asked for.

        Returns False, and stores nothing, where another machine took the trial for lost and has queued it again.
        """
        _, trial, began = self.open.pop(self._place(architecture))
        values = [evaluation.score] + ([] if self.second is None else [self.second(architecture)])
        note = asdict(evaluation) | {"directions": architecture, "seconds": round(time.perf_counter() - began, 3)}
        try:
            patiently(partial(trial.set_user_attr, RESULT, note))
            told = patiently(partial(self.study.tell, trial, values, skip_if_finished=True))
            return told.state == TrialState.COMPLETE
        except UpdateFinishedTrialError:
            return False

    def give_back(self, architecture: Architecture, *, reason: str) -> None:
        """Put an architecture that was asked for but not evaluated back in the queue: it is the next one."""
        abandon(self.study, self.open.pop(self._place(architecture))[1], reason=reason, retries=RETRIES)

    def trials(self) -> list[Trial]:
        """Return the evaluated architectures, in the order in which they were proposed."""
        return [self._read(t) for t in self._in_order() if t.state == TrialState.COMPLETE]

    def history(self) -> History:
        """Return what strategies look at. A trial that failed for good counts as tried, with the lowest score."""
        tried, running = [], set()
        for trial in self._in_order():
            architecture = self._architecture(trial)
            if trial.state == TrialState.COMPLETE:
                tried.append(Tried(self._decoded(trial), *trial.values))
            elif trial.state == TrialState.FAIL and architecture is not None:
                tried.append(Tried(architecture, -math.inf, None if self.second is None else math.inf))
            elif architecture is not None:
                running.add(architecture)
        return History(self.space, tried, {one.architecture for one in tried} | running)

    def _in_order(self) -> list[FrozenTrial]:
        """Return the trials as they were proposed: one that was cut off and tried again has the place of its first try."""
        return sorted(patiently(partial(counted, self.study)), key=origin)

    @property
    def spent(self) -> float:
        """Branch-scan steps of all finished trials."""
        return sum(trial.evaluation.cost for trial in self.trials())

    def _place(self, architecture: Architecture) -> int:
        """Return the place of an architecture among those that were asked for."""
        return next(i for i, (asked, _, _) in enumerate(self.open) if asked == architecture)

    def _architecture(self, trial: FrozenTrial) -> Architecture | None:
        """Return the architecture of a trial, or None where it was killed before it had one."""
        return self._decoded(trial) if len(trial.params) == len(self.space.keep) else None

    def _decoded(self, trial: FrozenTrial) -> Architecture:
        """Return the architecture of a trial that has one."""
        return self.code.decode(self.space, trial.params)

    def _read(self, trial: FrozenTrial) -> Trial:
        note, second = trial.user_attrs[RESULT], None if self.second is None else trial.values[1]
        evaluation = Evaluation(*(note[f.name] for f in fields(Evaluation)))
        return Trial(origin(trial), self._decoded(trial), evaluation, second, note["seconds"])


class _Proposal(BaseSampler):
    """Hands one proposal to Optuna."""

    def __init__(self, distributions: dict[str, BaseDistribution], params: dict[str, float]) -> None:
        self.distributions, self.params = distributions, params

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, float]:
        return self.params

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> float:
        return self.params[param_name]


def best_of(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the highest score, of equal ones the earlier."""
    return max(trials, key=lambda trial: trial.evaluation.score)


def pareto_front(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other beats in score and second objective, cheapest first; of equal ones the earlier."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda t: (t.second, -t.evaluation.score, t.number)):
        if not front or trial.evaluation.score > front[-1].evaluation.score:
            front.append(trial)
    return front


def candidate_means(space: ArchitectureSpace, trials: Sequence[Trial]) -> list[dict[str, float]]:
    """Return, per layer, the mean score of the architectures that hold a candidate; candidates that none holds are left out.

    Architectures whose training diverged do not count.
    """
    finite = [t for t in trials if math.isfinite(t.evaluation.score)]
    means = []
    for layer, names in enumerate(space.candidates):
        held = {n: [t.evaluation.score for t in finite if n in t.architecture[layer]] for n in names}
        means.append({n: sum(scores) / len(scores) for n, scores in held.items() if scores})
    return means
