"""A user's own scan orders in files: the key `orders` of a search space or genotype, read into names that carry the tables.

    orders: {mine: {8x8: [0, 1, ...], 4x4: "0 1 ...", 2x2: {file: mine_2x2.npy}}}

One table per token grid (rows x columns), as a list, as text of integers, or, in a search space, as a file beside it: .npy,
or text of integers. table[t] is the raster index i * W + j of the t-th visited token.
"""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmsearch.errors import DirectionError, short
from lmsearch.reading import read_text
from lmsearch.scan.directions import FLIP, parse_direction
from lmsearch.scan.grids import Grid
from lmsearch.scan.tables import GRID, LABEL, MARK, Table, read_table_name, table_name

NPY = b"\x93NUMPY"  # how every .npy file begins
EXAMPLE = "{mine: {8x8: [0, 1, ...]}}"


def read_orders(content: Any, *, folder: Path | None = None) -> dict[str, str]:
    """Return {label: canonical name} of an `orders` section; files are looked up in `folder`, None accepts no files.

    Raises DirectionError, naming order, grid and value, for a label that is taken and a table that is no permutation.
    """
    if not isinstance(content, Mapping):
        raise DirectionError(f"orders {short(content)} must map each name to its tables, such as {EXAMPLE}")
    return {label: _read_order(label, grids, folder) for label, grids in content.items()}


def named_direction(name: str, orders: Mapping[str, str]) -> str:
    """Return the canonical name of a direction that may be one of `orders`; raise DirectionError for any other text."""
    base = name.removesuffix(FLIP)
    if base in orders:
        return orders[base] + name[len(base) :]
    try:
        return parse_direction(name).name
    except DirectionError as error:
        own = f", or an order of this file: {', '.join(orders)}" if orders else ""
        raise DirectionError(f"{error}{own}") from None


def write_orders(names: Iterable[str]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Return the `orders` section that a file with these directions needs, and {name: label} of its orders and
    their flips.

    Raises DirectionError where two of them share a label, and where a label is the name of a pattern.
    """
    sections: dict[str, dict[str, str]] = {}
    labels: dict[str, str] = {}
    for name in names:
        order = parse_direction(name)
        if MARK not in order.name:
            continue
        label, tables = read_table_name(order.base)
        _check_label(label)
        texts = {f"{h}x{w}": " ".join(map(str, table.tolist())) for (h, w), table in tables.items()}
        if sections.setdefault(label, texts) != texts:
            raise DirectionError(f"two orders with different tables are called {short(label)}; rename one of them")
        labels |= {order.base: label, order.base + FLIP: label + FLIP}
    return sections, labels


def _read_order(label: Any, grids: Any, folder: Path | None) -> str:
    """Return the canonical name of one entry of an `orders` section."""
    _check_label(label)
    if not isinstance(grids, Mapping) or not grids:
        raise DirectionError(f"order {short(label)}: {short(grids)} must map token grids to tables, such as {EXAMPLE}")
    tables: dict[Grid, Table] = {}
    for grid, value in grids.items():
        match = re.fullmatch(GRID, grid) if isinstance(grid, str) else None
        if match is None:
            expected = "expected <rows>x<columns>, such as 8x8"
            raise DirectionError(f"order {short(label)}: {short(grid)} is not a token grid; {expected}")
        at = f"order {short(label)}: the {grid} table"
        tables[int(match[1]), int(match[2])] = _read_table(value, folder, at=at)
    return table_name(label, tables)


def _check_label(label: Any) -> None:
    """Raise DirectionError unless `label` can name an order of a user's own."""
    if not isinstance(label, str) or not re.fullmatch(LABEL, label) or label.endswith(FLIP):
        rule = f"a letter, then letters, digits, _ and -, and not {FLIP} at the end"
        raise DirectionError(f"order {short(label)}: the name must be {rule}")
    try:
        parse_direction(label)
    except DirectionError:
        return
    raise DirectionError(f"order {short(label)}: the name is taken by a built-in scan direction; choose another")


def _read_table(value: Any, folder: Path | None, *, at: str) -> Sequence[int]:
    """Return the entries of a table as it is written in a file; `at` names it in errors."""
    if isinstance(value, str):
        return _integers(value.split(), at=at)
    if isinstance(value, list):
        return _integers(value, at=at)
    if folder is not None and isinstance(value, Mapping) and list(value) == ["file"] and isinstance(value["file"], str):
        return _read_file(folder / value["file"], at=at)
    files = "" if folder is None else ", or {file: <name>}"
    raise DirectionError(f"{at} is {short(value)}; accepted: a list of integers, text of integers{files}")


def _integers(values: Sequence[Any], *, at: str) -> list[int]:
    """Return the values as integers, each written as one."""
    for value in values:
        if type(value) is not int and not (isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value)):
            raise DirectionError(f"{at} holds {short(value)}, which is not an integer")
    return [int(value) for value in values]


def _read_file(path: Path, *, at: str) -> Sequence[int]:
    """Return the entries of a table in a .npy or text file."""
    at = f"{at} ({path})"
    if path.suffix != ".npy":
        return _integers(read_text(path, where=at, error=DirectionError).replace(",", " ").split(), at=at)
    try:
        with path.open("rb") as file:
            if file.read(len(NPY)) != NPY:
                raise ValueError("no .npy file")
        table = np.load(path, allow_pickle=False, mmap_mode="r")  # allocates nothing for a size that the file does not have
    except (OSError, ValueError, EOFError, SyntaxError, OverflowError, tokenize.TokenError) as error:
        raise DirectionError(f"{at} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if table.ndim != 1 or not np.issubdtype(table.dtype, np.integer):
        raise DirectionError(f"{at} has shape {table.shape} of {table.dtype}; expected one axis of integers")
    return [int(index) for index in table]
