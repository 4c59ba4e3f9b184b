"""The spaces of ScanBench, small enough to train every architecture: 64 + 28 + 70 = 162 of them over eight directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

from lmsearch.errors import DataError, short
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search_space import load_search_space

CANDIDATES = load_search_space("localmamba8_w4").candidates


@dataclass(frozen=True)
class Space:
    """All architectures of `depth` layers that keep `keep` of the candidates each. A table may have other candidates."""

    depth: int
    keep: int
    candidates: tuple[str, ...] = CANDIDATES

    def architectures(self) -> tuple[Architecture, ...]:
        """Return every architecture, directions in candidate order, the last layer changing fastest."""
        layers = tuple(combinations(self.candidates, self.keep))
        return tuple(product(layers, repeat=self.depth))


FIRST_SPACES = {"2 layers, top 1": Space(2, 1), "1 layer, top 2": Space(1, 2), "1 layer, top 4": Space(1, 4)}  # of version 1.0
SPACES = FIRST_SPACES | {}  # tables of other spaces add theirs here; studies stay with the first


def to_text(architecture: Architecture) -> str:
    """Write an architecture in one word: directions with "+", layers with "/", such as "h+v/w2+w4"."""
    return "/".join("+".join(layer) for layer in architecture)


def from_text(text: str) -> Architecture:
    """Read what `to_text` wrote."""
    return tuple(tuple(layer.split("+")) for layer in text.split("/"))


def as_architecture(layers: Sequence[Sequence[str]]) -> Architecture:
    """Return an architecture from lists too, as JSON gives them; raise DataError for what is no names of directions by layer."""
    lists = (list, tuple)
    if isinstance(layers, lists) and all(isinstance(own, lists) and all(isinstance(d, str) for d in own) for own in layers):
        return tuple(tuple(own) for own in layers)
    raise DataError(f"{short(layers)} is no architecture; expected a list of directions for every layer, such as [['h', 'v']]")


def space_of(architecture: Architecture) -> str:
    """Return the name of the space that `architecture` belongs to; raise DataError where it belongs to none."""
    sizes = {len(layer) for layer in architecture}
    for name, space in SPACES.items():
        if space.depth == len(architecture) and sizes == {space.keep}:
            return name
    known = ", ".join(SPACES)
    raise DataError(f"architecture {to_text(architecture)!r} is in no space of ScanBench; its spaces: {known}")


def in_candidate_order(layers: Sequence[Sequence[str]], candidates: Sequence[str] = CANDIDATES) -> Architecture:
    """Return the architecture with the directions of every layer in candidate order."""
    return tuple(tuple(sorted(layer, key=list(candidates).index)) for layer in layers)
