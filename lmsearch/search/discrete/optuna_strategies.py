"""Optuna's samplers as strategies. Each follows the history with a study in memory, in the form that its sampler learns from.

What is stored is one number per layer for every strategy; so a resumed search and an uninterrupted one see the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from lmsearch.search.discrete.architectures import Architecture, ArchitectureSpace
from lmsearch.search.discrete.strategies import History, Tried, changed, draw_new

Params = dict[str, float]
STARTUP = 10  # random architectures before TPE starts to learn, Optuna's own default
KEPT, DROPPED = 0.75, 0.25  # keys of the candidates of a tried architecture


class Code(Protocol):
    """How a sampler sees architectures."""

    def distributions(self, space: ArchitectureSpace) -> dict[str, BaseDistribution]:
        """Return the parameters of an architecture."""

    def encode(self, space: ArchitectureSpace, architecture: Architecture) -> Params:
        """Return the parameters that stand for an architecture."""

    def decode(self, space: ArchitectureSpace, params: Params) -> Architecture:
        """Return the architecture that parameters stand for: any parameters stand for one."""


class Numbers:
    """One whole number per layer, that of its subset: crossover and mutation exchange whole layers."""

    def distributions(self, space: ArchitectureSpace) -> dict[str, BaseDistribution]:
        """Every layer's number."""
        return {f"layer{n}": IntDistribution(0, space.choices(n) - 1) for n in range(len(space.keep))}

    def encode(self, space: ArchitectureSpace, architecture: Architecture) -> Params:
        """Number the subsets."""
        return {f"layer{n}": number for n, number in enumerate(space.numbers(architecture))}

    def decode(self, space: ArchitectureSpace, params: Params) -> Architecture:
        """Look the subsets up."""
        return space.architecture([int(params[f"layer{n}"]) for n in range(len(space.keep))])


class Keys:
    """One key in [0, 1] per candidate, of which a layer keeps the largest: what one direction is worth is learned over all
    subsets that hold it. Where layers may keep fewer, how many is a parameter of its own."""

    def distributions(self, space: ArchitectureSpace) -> dict[str, BaseDistribution]:
        """Every candidate's key, and the number kept where it varies."""
        found: dict[str, BaseDistribution] = {}
        for n, (names, most, few) in enumerate(zip(space.candidates, space.keep, space.fewest, strict=True)):
            found |= {f"layer{n}.{name}": FloatDistribution(0.0, 1.0) for name in names}
            if few < most:
                found[f"layer{n}"] = IntDistribution(few, most)
        return found

    def encode(self, space: ArchitectureSpace, architecture: Architecture) -> Params:
        """High keys for what is kept, low ones for the rest."""
        params: Params = {}
        for n, (names, mine) in enumerate(zip(space.candidates, architecture, strict=True)):
            params |= {f"layer{n}.{name}": KEPT if name in mine else DROPPED for name in names}
            if space.fewest[n] < space.keep[n]:
                params[f"layer{n}"] = len(mine)
        return params

    def decode(self, space: ArchitectureSpace, params: Params) -> Architecture:
        """Keep the largest keys, of equal ones the earlier candidate."""
        layers = []
        for n, names in enumerate(space.candidates):
            keys = {name: params[f"layer{n}.{name}"] for name in names}
            ranked = sorted(names, key=keys.__getitem__, reverse=True)
            kept = set(ranked[: int(params.get(f"layer{n}", space.keep[n]))])
            layers.append(tuple(name for name in names if name in kept))
        return tuple(layers)


@dataclass
class OptunaStrategy:
    """`sampler(seed)` makes the sampler of one proposal; `objectives` 2 adds Tried.second, lower is better.

    `startup` architectures are drawn at random; after them, those of one `generation` are proposed from the one before.
    The study in memory is a cache: from the same history it comes out the same.
    """

    sampler: Callable[[int], BaseSampler]
    code: Code
    objectives: int = 1
    startup: int = 0
    generation: int = 1
    told: list[Tried] = field(default_factory=list, init=False)
    study: optuna.Study | None = field(default=None, init=False)

    def propose(self, history: History, rng: np.random.Generator) -> Architecture:
        """Draw at random `startup` times; then ask the sampler, and change what it proposes where that is taken."""
        if len(history.tried) < self.startup:
            return draw_new(history, rng)
        study = self._follow(history)
        study.sampler = self.sampler(int(rng.integers(2**32)))
        trial = study.ask(self.code.distributions(history.space))
        study.tell(trial, state=TrialState.FAIL)  # what counts comes in with the history
        proposed = self.code.decode(history.space, trial.params)
        return proposed if proposed not in history.taken else changed(proposed, history, rng)

    def ahead(self, history: History) -> int:
        """The rest of the random ones, or of the generation."""
        if len(history.tried) < self.startup:
            return self.startup - len(history.tried)
        scored = sum(all(map(math.isfinite, self._values(one))) for one in history.tried)
        return self.generation - scored % self.generation

    def _follow(self, history: History) -> optuna.Study:
        """Return the study in memory, which is told what is new."""
        tried, study = list(history.tried), self.study
        if study is None or tried[: len(self.told)] != self.told:
            directions = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)[: self.objectives]
            study, self.told = optuna.create_study(directions=directions), []
        self.study = study
        study.sampler = self.sampler(0)  # it notes the generation of each trial and decides nothing
        for one in tried[len(self.told) :]:
            values = self._values(one)
            if all(map(math.isfinite, values)):
                study.enqueue_trial(self.code.encode(history.space, one.architecture))
                study.tell(study.ask(self.code.distributions(history.space)), list(values))
        self.told = tried
        return study

    def _values(self, one: Tried) -> Sequence[float]:
        second = math.nan if one.second is None else one.second
        return (one.score,) if self.objectives == 1 else (one.score, second)


def tpe(startup: int = STARTUP) -> OptunaStrategy:
    """Tree-structured Parzen estimator (Optuna), which learns once `startup` random architectures are scored."""

    def sampler(seed: int) -> TPESampler:
        return TPESampler(seed=seed, n_startup_trials=startup, multivariate=False)

    return OptunaStrategy(sampler, Keys(), startup=startup)


def nsga2(population: int) -> OptunaStrategy:
    """NSGA-II (Optuna) for score against a second objective, with `population` architectures per generation."""

    def sampler(seed: int) -> NSGAIISampler:
        return NSGAIISampler(population_size=population, seed=seed)

    return OptunaStrategy(sampler, Numbers(), objectives=2, generation=population)
