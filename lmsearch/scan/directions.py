"""Scan directions: names such as "w7_flip", parsed once into a frozen ScanOrder that gives index tables for any grid.

Shapes: a grid is (H, W); L = H * W tokens; `order[t]` is the raster index i * W + j of the t-th visited token.
A new scan order is one function of lmsearch/scan/patterns.py and one row in PATTERNS.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from lmsearch.errors import DirectionError, short
from lmsearch.scan import patterns
from lmsearch.scan.grids import Grid, grid_text, num_tokens, whole_windows
from lmsearch.scan.patterns import Keys
from lmsearch.scan.tables import MARK, read_table_name, table_on, tabled

log = logging.getLogger(__name__)
FLIP = "_flip"
MOST_PADDED = 2**18  # tokens of a grid that zero padding may always make
NUMBER = r"[1-9][0-9]{0,29}"
SIDES = rf"(?P<a>{NUMBER})(?:x(?P<b>{NUMBER}))?"  # of a window; one number is a square


@dataclass(frozen=True)
class Pattern:
    """One family of directions: how its names look, and its sort keys, a function of (i, j) and the numbers in the name.

    A regex with the groups a and b makes windows of a rows by b columns, which padding may complete. `arithmetic`: the keys
    after the first are whole numbers of at most H + W, all computed by operators that PyTorch has too, so that a graph can
    compute them for any grid.
    """

    regex: str
    usage: str
    keys: Callable[..., Keys]
    arithmetic: bool = False


PATTERNS = (
    Pattern("h", "h", patterns.raster, arithmetic=True),
    Pattern("v", "v", patterns.column, arithmetic=True),
    Pattern(f"w{SIDES}", "w<side>, w<rows>x<columns>", patterns.windows, arithmetic=True),
    Pattern(f"cw{SIDES}", "cw<side>, cw<rows>x<columns>", patterns.column_windows, arithmetic=True),
    Pattern("snake", "snake", patterns.snake, arithmetic=True),
    Pattern("snake_v", "snake_v", patterns.column_snake, arithmetic=True),
    Pattern("antisnake", "antisnake", patterns.antisnake, arithmetic=True),
    Pattern("antisnake_v", "antisnake_v", patterns.column_antisnake, arithmetic=True),
    Pattern("diag", "diag", patterns.diagonals, arithmetic=True),
    Pattern("antidiag", "antidiag", patterns.antidiagonals, arithmetic=True),
    Pattern("zigzag", "zigzag", patterns.zigzag, arithmetic=True),
    Pattern("morton", "morton", patterns.morton, arithmetic=True),
    Pattern("hilbert", "hilbert", patterns.hilbert),
    Pattern("spiral", "spiral", patterns.spiral, arithmetic=True),
    Pattern(rf"atrous(?P<p>{NUMBER})", "atrous<step>", patterns.atrous, arithmetic=True),
    Pattern(r"random(?P<seed>0|[1-9][0-9]{0,8})", "random<seed>", patterns.shuffled),
)
RENAMED = {"snake_t": "snake_v"}  # names of earlier versions
ACCEPTED = ", ".join(p.usage for p in PATTERNS) + f", each optionally followed by {FLIP}; numbers of up to 30 digits"


@dataclass(frozen=True)
class ScanOrder:
    """One scan direction. `window` is (rows, columns) of its windows, or None; `flip` reverses the whole sequence.

    `label` is the name as people read it: `name` itself, but for an order that carries its own table. `arithmetic`: see Pattern.
    """

    name: str
    base: str
    label: str
    keys: Callable[[np.ndarray, np.ndarray], Keys]
    window: tuple[int, int] | None
    flip: bool
    arithmetic: bool = False

    def padded_grid(self, grid: Grid) -> Grid:
        """Return the smallest grid of whole windows that holds `grid` (LocalMamba's zero padding).

        Raises DirectionError where that would be far more tokens than the grid has.
        """
        if self.window is None:
            return grid
        padded = whole_windows(grid, self.window)
        if num_tokens(padded) > max(MOST_PADDED, 4 * num_tokens(grid)):
            raise DirectionError(
                f"{self.label} with zero padding makes {grid_text(padded)} tokens of {grid_text(grid)}; accepted: up to"
                f" {MOST_PADDED:,}, or 4 times the grid; take a smaller window, or window_padding=none"
            )
        return padded

    def check_grid(self, grid: Grid) -> None:
        """Raise DirectionError where the order has tables of its own, but none for `grid`."""
        if MARK in self.base:
            table_on(self.base, grid)

    def indices(self, grid: Grid) -> np.ndarray:
        """Return the (L,) int32 permutation of raster indices in the order of the visit, without any padding.

        Raises DirectionError where the order has tables of its own, but none for `grid`.
        """
        keys = self.keys(*np.indices(grid))
        order = np.lexsort([k.ravel() for k in reversed(keys)]).astype(np.int32)
        return order[::-1].copy() if self.flip else order


def present_name(name: str) -> str:
    """Return the name that a direction of an earlier version has today, with one warning; other text is returned as it is."""
    base = name.removesuffix(FLIP)
    return _present_base(base) + name[len(base) :] if base in RENAMED else name


@lru_cache(maxsize=None)  # one warning is enough
def _present_base(base: str) -> str:
    """Return the present name of one that has changed."""
    log.warning("scan direction %s is now called %s; the old name is still read", base, RENAMED[base])
    return RENAMED[base]


def former_names(content: Any) -> Any:
    """Return nested lists of directions under the names that version 0.1.0 gave them: what a run is known by stays the same."""
    if isinstance(content, list | tuple):
        return type(content)(former_names(inside) for inside in content)
    before = {present: former for former, present in RENAMED.items()}
    base = content.removesuffix(FLIP) if isinstance(content, str) else ""
    return before[base] + content[len(base) :] if base in before else content


@lru_cache(maxsize=None)
def parse_direction(name: str) -> ScanOrder:
    """Parse a direction such as "h", "v_flip", "w2", "w2x7_flip" into a ScanOrder; raise DirectionError for any other text.

    Names of earlier versions are read with one warning.
    """
    name = present_name(name) if isinstance(name, str) else name
    base = name.removesuffix(FLIP) if isinstance(name, str) else ""
    flip = FLIP * (base != name)
    if MARK in base:
        label, _ = read_table_name(base)
        return ScanOrder(name, base, label + flip, partial(tabled, name=base), None, bool(flip))
    for pattern in PATTERNS:
        match = re.fullmatch(pattern.regex, base)
        if match is None:
            continue
        window, numbers = None, match.groupdict()
        if "a" in numbers:
            a, b = numbers["a"], numbers["b"] or numbers["a"]
            numbers, window = {"a": a, "b": b}, (int(a), int(b))
            base = base[: match.start("a")] + (a if a == b else f"{a}x{b}")
        keys = partial(pattern.keys, **{key: int(number) for key, number in numbers.items()})
        return ScanOrder(base + flip, base, base + flip, keys, window, bool(flip), pattern.arithmetic)
    raise DirectionError(f"{short(name)} is not a scan direction; accepted: {ACCEPTED}")


def label(name: str) -> str:
    """Return a direction's name as people read it: for an order that carries its own table, the name without the table."""
    return parse_direction(name).label


@lru_cache(maxsize=1024)
def _cached_indices(direction: str, grid: Grid) -> np.ndarray:
    """The order of one direction, kept because a search that samples directions asks for ever new sets of them."""
    return parse_direction(direction).indices(grid)


@lru_cache(maxsize=1024)
def index_table(directions: tuple[str, ...], grid: Grid) -> np.ndarray:
    """Return the (K, L) int32 table whose row k visits `grid` along directions[k]. The array is cached: treat it as read-only."""
    table = np.stack([_cached_indices(d, grid) for d in directions])
    table.setflags(write=False)
    return table


def duplicates(directions: Sequence[str], grid: Grid, *, padding: str = "none") -> dict[str, str]:
    """Map each direction that visits `grid` exactly as an earlier one does to that earlier one.

    `padding="zeros"` compares the orders on LocalMamba's padded grids, where pads take part in the scan.
    """
    first: dict[tuple[Grid, bytes], str] = {}
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
