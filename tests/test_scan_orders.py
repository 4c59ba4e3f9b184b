"""Scan orders on every grid from 1x1 to 17x17, against an independent walk over the tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsearch.errors import DirectionError
from lmsearch.scan.directions import FLIP, duplicates, index_table, parse_direction

GRIDS = [(height, width) for height in range(1, 18) for width in range(1, 18)]
WINDOWS = {"w2": (2, 2), "w3": (3, 3), "w7": (7, 7), "w2x7": (2, 7)}
BASES = ("h", "v", *WINDOWS)
LOCALMAMBA8 = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")


def walk_windows(height: int, width: int, rows: int, columns: int) -> list[int]:
    """Visit the windows one after the other with plain loops, as a person would; edge windows are cut off."""
    visited = []
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            for i in range(top, min(top + rows, height)):
                visited += [i * width + j for j in range(left, min(left + columns, width))]
    return visited


def walk(base: str, height: int, width: int) -> list[int]:
    """Return the expected order of an unflipped direction."""
    if base == "h":
        return list(range(height * width))
    if base == "v":
        return [i * width + j for j in range(width) for i in range(height)]
    return walk_windows(height, width, *WINDOWS[base])


@pytest.mark.parametrize("base", BASES)
def test_every_order_is_the_expected_walk_and_visits_each_token_once(base: str) -> None:
    for height, width in GRIDS:
        order = parse_direction(base).indices((height, width))
        assert order.dtype == np.int32
        assert order.tolist() == walk(base, height, width)
        assert sorted(order.tolist()) == list(range(height * width))


@pytest.mark.parametrize("base", BASES)
def test_a_flip_is_the_whole_sequence_reversed(base: str) -> None:
    for grid in GRIDS:
        forward, backward = parse_direction(base).indices(grid), parse_direction(base + FLIP).indices(grid)
        assert backward.tolist() == forward.tolist()[::-1]


@pytest.mark.parametrize(("base", "window"), WINDOWS.items())
def test_windows_that_divide_the_grid_equal_a_reshape_and_transpose(base: str, window: tuple[int, int]) -> None:
    a, b = window
    for rows in range(1, 4):
        for columns in range(1, 4):
            height, width = rows * a, columns * b
            expected = np.arange(height * width).reshape(rows, a, columns, b).transpose(0, 2, 1, 3).ravel()
            assert np.array_equal(parse_direction(base).indices((height, width)), expected)


@pytest.mark.parametrize("name", [*WINDOWS, *(base + FLIP for base in WINDOWS)])
def test_partial_windows_equal_the_padded_order_with_the_pads_removed(name: str) -> None:
    scan = parse_direction(name)
    for height, width in GRIDS:
        padded = scan.padded_grid((height, width))
        i, j = np.divmod(scan.indices(padded), padded[1])
        kept = (i < height) & (j < width)
        assert np.array_equal(scan.indices((height, width)), i[kept] * width + j[kept])


def test_padded_grid_is_the_next_whole_number_of_windows() -> None:
    assert parse_direction("w2").padded_grid((7, 7)) == (8, 8)
    assert parse_direction("w7").padded_grid((16, 8)) == (21, 14)
    assert parse_direction("w2x7").padded_grid((7, 7)) == (8, 7)
    assert parse_direction("v_flip").padded_grid((5, 3)) == (5, 3)


@pytest.mark.parametrize("padding", ["none", "zeros"])
def test_w7_is_h_on_small_grids(padding: str) -> None:
    for grid in GRIDS:
        same = duplicates(("h", "w7"), grid, padding=padding)
        small = max(grid) <= 7 if padding == "none" else grid == (7, 7)
        assert ("w7" in same) == (small or _one_column(grid, padding)), grid


def _one_column(grid: tuple[int, int], padding: str) -> bool:
    """Tell whether one column or one row of windows makes windows and rows the same walk."""
    if padding == "zeros":
        return grid[0] % 7 == 0 and grid[1] == 7
    return grid[1] <= 7 or grid[0] == 1


def test_w2_is_h_on_a_2x2_grid_and_all_eight_differ_on_14x14() -> None:
    assert duplicates(LOCALMAMBA8, (2, 2)) == {"w2": "h", "w2_flip": "h_flip", "w7": "h", "w7_flip": "h_flip"}
    assert duplicates(LOCALMAMBA8, (14, 14)) == duplicates(LOCALMAMBA8, (14, 14), padding="zeros") == {}


def test_duplicates_are_exactly_the_equal_walks() -> None:
    for grid in GRIDS:
        tables = [tuple(row) for row in index_table(LOCALMAMBA8, grid).tolist()]
        expected = {
            d: LOCALMAMBA8[tables.index(t)]
            for n, (d, t) in enumerate(zip(LOCALMAMBA8, tables, strict=True))
            if tables.index(t) < n
        }
        assert duplicates(LOCALMAMBA8, grid) == expected


def test_index_table_has_one_read_only_row_per_direction() -> None:
    table = index_table(("h", "v_flip"), (2, 3))
    assert table.tolist() == [[0, 1, 2, 3, 4, 5], [5, 2, 4, 1, 3, 0]]
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 1


@pytest.mark.parametrize(
    ("name", "canonical"), [("w2x2", "w2"), ("w2x2_flip", "w2_flip"), ("w2x7", "w2x7"), ("h_flip", "h_flip"), ("w14", "w14")]
)
def test_names_are_canonical(name: str, canonical: str) -> None:
    assert parse_direction(name).name == canonical


@pytest.mark.parametrize(
    "name",
    ["", "w", "w0", "w3x", "x3", "wx2", "w-1", "w2.5", "w02", "h2", "flip", "_flip", "h_flip_flip", "H", " h", "h\n", 3, None],
)
def test_other_text_is_not_a_direction(name: object) -> None:
    with pytest.raises(DirectionError, match="is not a scan direction; accepted: h, v, w<side>"):
        parse_direction(name)


def test_a_window_larger_than_any_grid_is_one_window() -> None:
    assert parse_direction("w" + "9" * 30).indices((3, 4)).tolist() == list(range(12))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(1, 50), st.booleans())
def test_windows_of_any_sides_visit_every_token_once(height: int, width: int, rows: int, columns: int, flip: bool) -> None:
    order = parse_direction(f"w{rows}x{columns}" + FLIP * flip).indices((height, width)).tolist()
    assert sorted(order) == list(range(height * width))
    assert (order[::-1] if flip else order) == walk_windows(height, width, rows, columns)
