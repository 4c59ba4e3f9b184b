"""Explicit scan orders: index tables that travel inside a direction's name, so that the name alone is enough anywhere.

A name is `<label>@<H>x<W>:<table>`, with further grids after commas; the table holds the raster index i * W + j of the
t-th visited token as little-endian integers of 1, 2 or 4 bytes (the least that holds H * W - 1) in base64 without "=".
Two tables under one label are thus two names: nothing needs a registry, and nothing can be confused.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from lmsearch.errors import DirectionError, short
from lmsearch.scan.grids import Grid, grid_text, num_tokens

Table = Sequence[int] | np.ndarray  # the raster index of every visited token
MARK = "@"  # in no name of a pattern
LABEL = r"[A-Za-z][A-Za-z0-9_-]*"
GRID = r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})"
PART = re.compile(rf"{GRID}:([A-Za-z0-9+/]+)")


def table_name(label: str, tables: Mapping[Grid, Table]) -> str:
    """Return the name of the order that visits each grid by its table; raise DirectionError for what is no permutation."""
    parts = []
    for grid, table in sorted(tables.items()):
        check_permutation(table, grid, label=label)
        packed = base64.b64encode(np.asarray(table, dtype=_dtype(num_tokens(grid))).tobytes()).decode().rstrip("=")
        parts.append(f"{grid_text(grid)}:{packed}")
    return f"{label}{MARK}{','.join(parts)}"


@lru_cache(maxsize=256)
def read_table_name(name: str) -> tuple[str, dict[Grid, np.ndarray]]:
    """Return label and tables of a name that `table_name` wrote; raise DirectionError for other text."""
    label, _, packed = name.partition(MARK)
    tables: dict[Grid, np.ndarray] = {}
    for part in packed.split(","):
        match = PART.fullmatch(part)
        if match is None or not re.fullmatch(LABEL, label):
            raise DirectionError(f"{short(name)} is not the name of an order with a table")
        grid = (int(match[1]), int(match[2]))
        try:
            content = base64.b64decode(match[3] + "=" * (-len(match[3]) % 4), validate=True)
            tables[grid] = np.frombuffer(content, dtype=_dtype(num_tokens(grid))).astype(np.int64)
        except (binascii.Error, ValueError) as error:
            raise DirectionError(f"order {short(label)}: its {grid_text(grid)} table is damaged") from error
    if table_name(label, tables) != name:
        raise DirectionError(f"order {short(label)}: its name is not in canonical form")
    return label, tables


def check_permutation(table: Table, grid: Grid, *, label: str) -> None:
    """Raise DirectionError unless `table` lists every raster index of `grid` once."""
    at, tokens = f"order {short(label)}: the {grid_text(grid)} table", num_tokens(grid)
    if len(table) != tokens:
        raise DirectionError(f"{at} has {len(table)} entries; a {grid_text(grid)} grid has {tokens} tokens")
    outside = [value for value in table if not 0 <= value < tokens]
    if outside:
        raise DirectionError(f"{at} holds {short(outside[0])}; accepted: the raster indices 0 to {tokens - 1}")
    counts = np.bincount(table, minlength=tokens)
    if counts.max() > 1:
        twice, missing = int(counts.argmax()), int(counts.argmin())
        raise DirectionError(f"{at} is not a permutation: {twice} is listed {counts.max()} times and {missing} never")


def table_on(name: str, grid: Grid) -> np.ndarray:
    """Return the table (L,) of the order called `name` for `grid`; raise DirectionError where it has none."""
    label, tables = read_table_name(name)
    if grid not in tables:
        listed = ", ".join(map(grid_text, tables))
        raise DirectionError(f"order {short(label)} has no table for {grid_text(grid)} tokens; it has {listed}")
    return tables[grid]


def tabled(i: np.ndarray, j: np.ndarray, name: str) -> tuple[np.ndarray, ...]:
    """The sort key of the order called `name`: the time at which its table visits each token."""
    return (np.argsort(table_on(name, i.shape)).reshape(j.shape),)


def _dtype(tokens: int) -> str:
    """Return the NumPy type of a table's entries."""
    return "<u1" if tokens <= 2**8 else "<u2" if tokens <= 2**16 else "<u4"
