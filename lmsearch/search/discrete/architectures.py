"""Architectures, the directions of every layer as plain tuples of names, and the space that discrete searches choose from.

K candidates of a layer. Every subset that a layer may keep has a number, so that one whole number per layer names an
architecture without repair.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from lmsearch.errors import SearchSpaceError

Architecture = tuple[tuple[str, ...], ...]


def num_branches(architecture: Architecture) -> int:
    """Return the number of directions over all layers: the branch scans of one training step."""
    return sum(len(layer) for layer in architecture)


@dataclass(frozen=True)
class ArchitectureSpace:
    """Every layer keeps between `fewest` and `keep` of its candidates, listed in candidate order."""

    candidates: Architecture
    keep: tuple[int, ...]
    fewest: tuple[int, ...]

    @classmethod
    def of(cls, candidates: Sequence[Sequence[str]], keep: Sequence[int], *, fewest: int | None = None) -> ArchitectureSpace:
        """Return the space of exactly `keep` directions per layer, or of `fewest` to `keep`.

        Raises SearchSpaceError where a layer cannot keep so many or so few.
        """
        least = tuple(keep) if fewest is None else (fewest,) * len(keep)
        for layer, (names, most, few) in enumerate(zip(candidates, keep, least, strict=True)):
            if not 1 <= most <= len(names):
                raise SearchSpaceError(
                    f"keep={most} is not between 1 and the {len(names)} candidates of layer {layer}: {', '.join(names)}"
                )
            if not 1 <= few <= most:
                raise SearchSpaceError(f"search.fewest={few} is not between 1 and the {most} that layer {layer} keeps")
        return cls(tuple(tuple(names) for names in candidates), tuple(keep), least)

    def choices(self, layer: int) -> int:
        """Return how many subsets a layer may keep."""
        return sum(self._counts(layer))

    @property
    def size(self) -> int:
        """How many architectures there are."""
        return math.prod(self.choices(layer) for layer in range(len(self.keep)))

    def __contains__(self, architecture: Architecture) -> bool:
        """Tell whether an architecture is one of this space, candidate order included."""
        return len(architecture) == len(self.keep) and all(
            few <= len(mine) <= most and mine == tuple(n for n in names if n in mine)
            for mine, names, most, few in zip(architecture, self.candidates, self.keep, self.fewest, strict=True)
        )

    def numbers(self, architecture: Architecture) -> tuple[int, ...]:
        """Return the number of each layer's subset, 0 to choices(layer) - 1."""
        result = []
        for layer, mine in enumerate(architecture):
            names = self.candidates[layer]
            smaller = sum(self._counts(layer)[: len(mine) - self.fewest[layer]])
            result.append(smaller + _rank(len(names), [names.index(n) for n in mine]))
        return tuple(result)

    def architecture(self, numbers: Sequence[int]) -> Architecture:
        """Return the architecture whose layers have these numbers: the inverse of `numbers`."""
        return tuple(self._subset(layer, int(number)) for layer, number in enumerate(numbers))

    def draw(self, rng: np.random.Generator) -> Architecture:
        """Draw an architecture, all equally likely."""
        return self.architecture([int(rng.integers(self.choices(layer))) for layer in range(len(self.keep))])

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """Yield every architecture that is one swap away; where sizes may vary, also those with one more or one less."""
        for layer in range(len(self.keep)):
            for subset in self._moves(layer, architecture[layer]):
                yield architecture[:layer] + (subset,) + architecture[layer + 1 :]

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Return a random neighbour: a layer that can change, then one of its moves. Unchanged where there is none."""
        movable = [n for n in range(len(self.keep)) if self.choices(n) > 1]
        if not movable:
            return architecture
        layer = movable[rng.integers(len(movable))]
        moves = list(self._moves(layer, architecture[layer]))
        return architecture[:layer] + (moves[rng.integers(len(moves))],) + architecture[layer + 1 :]

    def _counts(self, layer: int) -> list[int]:
        """Number of subsets of each size, from the fewest to the most."""
        total = len(self.candidates[layer])
        return [math.comb(total, k) for k in range(self.fewest[layer], self.keep[layer] + 1)]

    def _subset(self, layer: int, number: int) -> tuple[str, ...]:
        ends = list(accumulate(self._counts(layer)))
        extra = next(i for i, end in enumerate(ends) if number < end)
        names = self.candidates[layer]
        kept = _unrank(len(names), self.fewest[layer] + extra, number - (ends[extra - 1] if extra else 0))
        return tuple(names[i] for i in kept)

    def _moves(self, layer: int, mine: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """Yield the subsets of one layer that are one move away from `mine`."""
        names = self.candidates[layer]
        rest = [n for n in names if n not in mine]
        gone: list[str | None] = list(mine)
        new: list[str | None] = list(rest)
        pairs = [(out, come) for out in gone for come in new]
        if len(mine) < self.keep[layer]:
            pairs += [(None, come) for come in new]
        if len(mine) > self.fewest[layer]:
            pairs += [(out, None) for out in gone]
        for out, come in pairs:
            yield tuple(n for n in names if n != out and (n in mine or n == come))


def _rank(n: int, kept: Sequence[int]) -> int:
    """Return the place of an increasing tuple among the combinations of range(n), in lexicographic order."""
    place, start = 0, 0
    for left, index in zip(range(len(kept), 0, -1), kept, strict=True):
        place += sum(math.comb(n - i - 1, left - 1) for i in range(start, index))
        start = index + 1
    return place


def _unrank(n: int, k: int, place: int) -> list[int]:
    """Return the combination of k out of range(n) at `place`: the inverse of `_rank`."""
    kept: list[int] = []
    for index in range(n):
        if len(kept) == k:
            break
        block = math.comb(n - index - 1, k - len(kept) - 1)
        if place < block:
            kept.append(index)
        else:
            place -= block
    return kept
