"""Strategies of discrete search: what to try next, given what has been tried. Every strategy is a function of the history.

A strategy draws from a generator that belongs to the place in the history, never from one that lives on: so a resumed search
proposes what an uninterrupted one would have. None proposes an architecture twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lmsearch.search.discrete.architectures import Architecture, ArchitectureSpace

ATTEMPTS = 100  # random draws before the space is gone through in order


@dataclass(frozen=True)
class Tried:
    """An architecture and its score: higher is better, -inf where training diverged or failed.

    `second` is the second objective where there is one: lower is better.
    """

    architecture: Architecture
    score: float
    second: float | None = None


@dataclass(frozen=True)
class History:
    """What a strategy may look at: the space, what was scored, in order, and what is taken (tried or running)."""

    space: ArchitectureSpace
    tried: Sequence[Tried]
    taken: Set[Architecture]

    @property
    def exhausted(self) -> bool:
        """True when every architecture of the space is taken."""
        return len(self.taken) >= self.space.size


class Strategy(Protocol):
    """What a discrete search needs."""

    def propose(self, history: History, rng: np.random.Generator) -> Architecture:
        """Return an architecture of the space that is not taken; the history must not be exhausted."""

    def ahead(self, history: History) -> int:
        """Return how many proposals in a row, one or more, are the same whatever those before them score."""


def draw_new(history: History, rng: np.random.Generator) -> Architecture:
    """Draw an architecture that is not taken: uniformly, and in a nearly exhausted space the next one in order."""
    for _ in range(ATTEMPTS):
        drawn = history.space.draw(rng)
        if drawn not in history.taken:
            return drawn
    return next(a for a in in_order(history.space, drawn) if a not in history.taken)


def changed(architecture: Architecture, history: History, rng: np.random.Generator) -> Architecture:
    """Change an architecture by one random move, and go on until it is one that is not taken."""
    for _ in range(ATTEMPTS):
        architecture = history.space.mutate(architecture, rng)
        if architecture not in history.taken:
            return architecture
    return draw_new(history, rng)


def in_order(space: ArchitectureSpace, start: Architecture) -> Iterator[Architecture]:
    """Yield every architecture once, from `start` on and around."""
    sizes = [space.choices(layer) for layer in range(len(space.keep))]
    numbers = list(space.numbers(start))
    for _ in range(space.size):
        yield space.architecture(numbers)
        for layer in reversed(range(len(sizes))):
            numbers[layer] = (numbers[layer] + 1) % sizes[layer]
            if numbers[layer]:
                break


@dataclass(frozen=True)
class RandomSearch:
    """Every architecture with the same probability."""

    def propose(self, history: History, rng: np.random.Generator) -> Architecture:
        """Draw one that is not taken."""
        return draw_new(history, rng)

    def ahead(self, history: History) -> int:
        """All: scores do not matter."""
        return history.space.size


@dataclass(frozen=True)
class LocalSearch:
    """Hill climbing by one swap: to the first neighbour that is better; from a local optimum, anew at a random place."""

    def propose(self, history: History, rng: np.random.Generator) -> Architecture:
        """Replay the climb, then draw among the untried neighbours of where it stands."""
        best = -math.inf
        left: dict[Architecture, None] = {}  # untried neighbours of the place, in a fixed order
        past: set[Architecture] = set()
        start = True  # whether the next one is a new start
        for one in history.tried:
            past.add(one.architecture)
            if start or one.score > best:
                best = one.score
                left = {a: None for a in history.space.neighbours(one.architecture) if a not in past}
            else:
                left.pop(one.architecture, None)
            start = not left
        free = [a for a in left if a not in history.taken]
        return free[rng.integers(len(free))] if free else draw_new(history, rng)

    def ahead(self, history: History) -> int:
        """One: where the climb stands depends on the score before."""
        return 1


@dataclass(frozen=True)
class Evolution:
    """Regularised evolution (arXiv 1802.01548): the best of a random tournament among the youngest is changed by one swap.

    `population` counts the youngest that are alive, and the random ones at the start; `tournament` those that compete.
    """

    population: int
    tournament: int

    def propose(self, history: History, rng: np.random.Generator) -> Architecture:
        """Draw at random until there is a population, then breed."""
        alive = history.tried[-self.population :]
        if len(alive) < self.population:
            return draw_new(history, rng)
        rivals = rng.choice(len(alive), size=min(self.tournament, len(alive)), replace=False)
        child = max((alive[i] for i in rivals), key=lambda one: one.score).architecture
        return changed(child, history, rng)

    def ahead(self, history: History) -> int:
        """The rest of the first population, which is drawn; then one."""
        return max(1, self.population - len(history.tried))
