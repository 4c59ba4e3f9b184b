"""What kinds of directions were kept, early and late in the network, beside what random choices would keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import comb

import numpy as np

from lmsearch.genotype import LayerChoice
from lmsearch.report.page.blocks import Cell, Table
from lmsearch.scan.directions import parse_direction

FAMILIES = ("raster", "window", "other")
MEANINGS = {"raster": "raster (rows, columns)", "window": "window", "other": "other"}
TAIL = 0.025  # on each side of the range that chance gives


@dataclass(frozen=True)
class Preference:
    """How many kept directions of a family there are, of how many kept ones, and what chance gives: mean, low and high."""

    kept: int
    of: int
    mean: float
    low: int
    high: int

    @property
    def told(self) -> str:
        """In words: more or less often than random choices, or as often."""
        return "more than chance" if self.kept > self.high else "less than chance" if self.kept < self.low else "as chance"


def family_of(direction: str) -> str:
    """Return the family of a direction."""
    order = parse_direction(direction)
    return "window" if order.window is not None else "raster" if order.base in ("h", "v") else "other"


def by_chance(candidates: int, of_family: int, keep: int) -> np.ndarray:
    """Return the chances (keep + 1,) that a random choice of `keep` holds 0, 1, ... of the family."""
    total = comb(candidates, keep)
    return np.array([comb(of_family, n) * comb(candidates - of_family, keep - n) / total for n in range(keep + 1)])


def preference(layers: Sequence[LayerChoice], family: str) -> Preference | None:
    """Return the preference of some layers for a family; None where no candidate, or every one, is of it."""
    counts = [sum(family_of(name) == family for name in layer.scores) for layer in layers]
    if not any(counts) or all(count == len(layer.scores) for count, layer in zip(counts, layers, strict=True)):
        return None
    chances = reduce(
        np.convolve, [by_chance(len(a.scores), n, len(a.directions)) for n, a in zip(counts, layers, strict=True)], np.ones(1)
    )
    cumulative = np.cumsum(chances)
    low, high = int(np.searchsorted(cumulative, TAIL)), int(np.searchsorted(cumulative, 1 - TAIL))
    kept = sum(family_of(name) == family for layer in layers for name in layer.directions)
    mean = float(np.arange(len(chances)) @ chances)
    return Preference(kept, sum(len(layer.directions) for layer in layers), mean, low, high)


def preference_table(layers: Sequence[LayerChoice]) -> Table | None:
    """Return families by depth; None where the layers tell no candidates, or hold one family only."""
    if not layers or not all(layer.scores for layer in layers):
        return None
    half = (len(layers) + 1) // 2
    parts = {"all layers": layers}
    if len(layers) > 1:
        parts |= {f"shallow (first {half})": layers[:half], f"deep (last {len(layers) - half})": layers[half:]}
    rows: list[tuple[Cell, ...]] = []
    for where, mine in parts.items():
        for family in FAMILIES:
            if (found := preference(mine, family)) is not None:
                chance = f"{found.mean:.1f} ({found.low} to {found.high})"
                rows.append((f"{where}: {MEANINGS[family]}", f"{found.kept} of {found.of}", chance, found.told))
    caption = "Kept directions by family and depth. By chance: the mean of random choices, and the range of 95 in 100 of them."
    return Table(caption, ("layers and family", "kept", "by chance", "compared"), tuple(rows)) if rows else None
