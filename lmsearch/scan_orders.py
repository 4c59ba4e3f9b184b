"""Scan directions: names such as "w7_flip", parsed once into a frozen ScanOrder that gives index tables for any grid.

Shapes: a grid is (H, W); L = H * W tokens; `order[t]` is the raster index i * W + j of the t-th visited token.
A new scan order is one function from a grid to sort keys, and one row in PATTERNS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lmsearch.errors import DirectionError

Grid = tuple[int, int]
Keys = tuple[np.ndarray, ...]  # most significant first; each (H, W)
FLIP = "_flip"


def raster(i: np.ndarray, j: np.ndarray) -> Keys:
    """Row by row."""
    return i, j


def column(i: np.ndarray, j: np.ndarray) -> Keys:
    """Column by column."""
    return j, i


def windows(i: np.ndarray, j: np.ndarray, a: int, b: int) -> Keys:
    """Windows of a rows by b columns in raster order, raster inside each; windows at the edge are partial."""
    return i // a, j // b, i % a, j % b


@dataclass(frozen=True)
class Pattern:
    """One family of directions: how its names look, its sort keys, and the sides of its windows."""

    regex: str
    usage: str
    keys: Callable[..., Keys]


PATTERNS = (
    Pattern(r"h", "h", raster),
    Pattern(r"v", "v", column),
    Pattern(r"w(?P<a>[1-9]\d*)(?:x(?P<b>[1-9]\d*))?", "w<side>, w<rows>x<columns>", windows),
)
ACCEPTED = ", ".join(p.usage for p in PATTERNS) + f", each optionally followed by {FLIP}"


@dataclass(frozen=True)
class ScanOrder:
    """One scan direction. `window` is (rows, columns) of its windows, or None; `flip` reverses the whole sequence."""

    name: str
    base: str
    keys: Callable[..., Keys]
    window: tuple[int, int] | None
    flip: bool

    def padded_grid(self, grid: Grid) -> Grid:
        """Return the smallest grid of whole windows that holds `grid` (LocalMamba's zero padding)."""
        if self.window is None:
            return grid
        return tuple(-(-side // w) * w for side, w in zip(grid, self.window, strict=True))

    def indices(self, grid: Grid) -> np.ndarray:
        """Return the (L,) int32 permutation of raster indices in the order of the visit, without any padding."""
        height, width = grid
        i, j = np.mgrid[:height, :width]
        sides = [
            min(w, side) for w, side in zip(self.window or (), grid, strict=False)
        ]  # of one window, cut to the grid
        keys = self.keys(i, j, *sides)
        order = np.lexsort([k.ravel() for k in reversed(keys)]).astype(np.int32)
        return order[::-1].copy() if self.flip else order


@lru_cache(maxsize=None)
def parse_direction(name: str) -> ScanOrder:
    """Parse a direction such as "h", "v_flip", "w2", "w2x7_flip" into a ScanOrder; raise DirectionError for any other text."""
    base = name.removesuffix(FLIP) if isinstance(name, str) else ""
    for pattern in PATTERNS:
        match = re.fullmatch(pattern.regex, base)
        if match is None:
            continue
        window = None
        if groups := match.groupdict():
            window = (int(groups["a"]), int(groups["b"] or groups["a"]))
            base = f"w{window[0]}" if window[0] == window[1] else f"w{window[0]}x{window[1]}"
        flip = name.endswith(FLIP)
        return ScanOrder(base + FLIP * flip, base, pattern.keys, window, flip)
    raise DirectionError(f"{name!r} is not a scan direction; accepted: {ACCEPTED}")


@lru_cache(maxsize=1024)
def index_table(directions: tuple[str, ...], grid: Grid) -> np.ndarray:
    """Return the (K, L) int32 table whose row k visits `grid` along directions[k]. The array is cached: treat it as read-only."""
    table = np.stack([parse_direction(d).indices(grid) for d in directions])
    table.setflags(write=False)
    return table


def duplicates(directions: Sequence[str], grid: Grid, *, padding: str = "none") -> dict[str, str]:
    """Map each direction that visits `grid` exactly as an earlier one does to that earlier one.

    `padding="zeros"` compares the orders on LocalMamba's padded grids, where pads take part in the scan.
    """
    first: dict[tuple, str] = {}
    same: dict[str, str] = {}
    for name in directions:
        scan = parse_direction(name)
        on = scan.padded_grid(grid) if padding == "zeros" else grid
        key = (on, scan.indices(on).tobytes())
        if key in first:
            same[name] = first[key]
        else:
            first[key] = name
    return same
