"""The scan patterns on every grid from 1x1 to 17x17, against walks, transposes and textbook curves."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

from lmsearch.errors import DirectionError
from lmsearch.scan.directions import ACCEPTED, FLIP, PATTERNS, duplicates, parse_direction
from lmsearch.search_space import load_search_space

GRIDS = [(height, width) for height in range(1, 18) for width in range(1, 18)]
BASES = (
    "h", "v", "w3", "cw3", "cw2x5", "snake", "snake_v", "antisnake", "antisnake_v", "diag", "antidiag", "zigzag",
    "morton", "hilbert", "spiral", "atrous1", "atrous3", "random0", "random7",
)  # fmt: skip
ADJACENT = ("snake", "snake_v", "antisnake", "antisnake_v", "hilbert", "spiral")
TRANSPOSES = (("h", "v"), ("w2x5", "cw5x2"), ("w3", "cw3"), ("snake", "snake_v"), ("antisnake", "antisnake_v"))


def order(name: str, grid: tuple[int, int]) -> list[int]:
    return parse_direction(name).indices(grid).tolist()


def cells(name: str, grid: tuple[int, int]) -> list[tuple[int, int]]:
    return [divmod(index, grid[1]) for index in order(name, grid)]


def adjacent_share(name: str, grid: tuple[int, int]) -> float:
    """Share of steps that move by one token in one axis."""
    i, j = np.divmod(order(name, grid), grid[1])
    steps = np.abs(np.diff(i)) + np.abs(np.diff(j))
    return float((steps == 1).mean()) if len(steps) else 1.0


def walk_spiral(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Walk on until the next token is taken or outside, then turn right."""
    seen, cell, heading = set(), (0, 0), (0, 1)
    while len(seen) < height * width:
        seen.add(cell)
        yield cell
        for _ in range(4):
            ahead = (cell[0] + heading[0], cell[1] + heading[1])
            if ahead not in seen and 0 <= ahead[0] < height and 0 <= ahead[1] < width:
                cell = ahead
                break
            heading = (heading[1], -heading[0])


def hilbert_cell(time: int, side: int) -> tuple[int, int]:
    """The textbook conversion of a distance along Hilbert's curve to (column, row), bit by bit."""
    x = y = 0
    scale = 1
    while scale < side:
        right, up = 1 & time // 2, 1 & (time ^ time // 2)
        if not up:
            if right:
                x, y = scale - 1 - x, scale - 1 - y
            x, y = y, x
        x, y = x + scale * right, y + scale * up
        time //= 4
        scale *= 2
    return x, y


def test_every_pattern_is_tested_here() -> None:
    tested = {parse_direction(base).keys.func for base in BASES}
    assert tested == {pattern.keys for pattern in PATTERNS}


@pytest.mark.parametrize("base", BASES)
def test_every_order_visits_each_token_once_and_its_flip_is_the_reversal(base: str) -> None:
    for grid in GRIDS:
        forward = order(base, grid)
        assert sorted(forward) == list(range(grid[0] * grid[1])), grid
        assert order(base + FLIP, grid) == forward[::-1], grid


@pytest.mark.parametrize("name", ADJACENT)
def test_every_step_is_to_a_neighbour_where_that_is_claimed(name: str) -> None:
    assert all(adjacent_share(name, grid) == 1.0 for grid in [*GRIDS, (2, 40), (41, 6), (31, 64)])


@pytest.mark.parametrize("name", sorted(set(BASES) - set(ADJACENT)))
def test_the_other_orders_jump(name: str) -> None:
    assert adjacent_share(name, (8, 8)) < 1.0


@pytest.mark.parametrize(("name", "transposed"), TRANSPOSES)
def test_transposed_patterns_are_each_others_walk_on_the_transposed_grid(name: str, transposed: str) -> None:
    for height, width in GRIDS:
        assert cells(transposed, (width, height)) == [(j, i) for i, j in cells(name, (height, width))]


@pytest.mark.parametrize("name", ["diag", "antidiag", "zigzag"])
def test_diagonal_orders_visit_one_line_after_the_other(name: str) -> None:
    sign = -1 if name == "antidiag" else 1
    for grid in GRIDS:
        lines = [i + sign * j for i, j in cells(name, grid)]
        assert lines == sorted(lines)


def test_zigzag_is_jpegs() -> None:
    start = [(0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2), (0, 3), (1, 2), (2, 1), (3, 0), (4, 0)]
    assert cells("zigzag", (8, 8))[:11] == start
    assert cells("zigzag", (2, 3)) == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (1, 2)]


def test_diagonals_on_a_small_grid() -> None:
    assert order("diag", (2, 3)) == [0, 1, 3, 2, 4, 5]
    assert order("antidiag", (2, 3)) == [2, 1, 5, 0, 4, 3]


def test_snakes_from_the_other_corners_on_a_small_grid() -> None:
    assert order("antisnake", (2, 3)) == [2, 1, 0, 3, 4, 5]
    assert order("antisnake_v", (2, 3)) == [3, 0, 1, 4, 5, 2]
    turned = ("snake", "antisnake", "snake_v", "antisnake_v")
    assert len({tuple(order(name + flip, (4, 4))) for name in turned for flip in ("", FLIP)}) == 8


def test_spiral_is_a_walk_that_turns_right_where_it_must() -> None:
    for grid in GRIDS:
        assert cells("spiral", grid) == list(walk_spiral(*grid)), grid


def test_morton_sorts_by_interleaved_bits() -> None:
    def code(cell: tuple[int, int]) -> int:
        return sum((cell[axis] >> bit & 1) << (2 * bit + 1 - axis) for axis in (0, 1) for bit in range(5))

    for grid in GRIDS:
        every = [(i, j) for i in range(grid[0]) for j in range(grid[1])]
        assert cells("morton", grid) == sorted(every, key=code)


@pytest.mark.parametrize("side", [1, 2, 4, 8, 16])
def test_hilbert_on_powers_of_two_is_the_textbook_curve(side: int) -> None:
    curve = [hilbert_cell(time, side) for time in range(side * side)]
    ours = cells("hilbert", (side, side))
    assert ours in (curve, [(y, x) for x, y in curve])


def test_hilbert_stays_local_on_rectangles() -> None:
    for grid in [(8, 12), (9, 14), (14, 14), (7, 16), (15, 20), (8, 33)]:
        i, j = np.divmod(order("hilbert", grid), grid[1])
        distance = np.hypot(i[16:] - i[:-16], j[16:] - j[:-16])  # of tokens that are 16 steps apart
        assert distance.mean() < 6, grid  # 16 along rows of a wide grid


def test_atrous_visits_dilated_grids_one_after_the_other() -> None:
    height, width, p = 5, 7, 3
    every = [(i, j) for top in range(p) for left in range(p) for i in range(top, height, p) for j in range(left, width, p)]
    assert cells("atrous3", (height, width)) == every
    assert order("atrous1", (height, width)) == order("h", (height, width)) == order("atrous" + "9" * 30, (height, width))


@pytest.mark.parametrize("name", [name for name in BASES if re.search(r"\d", name) and not name.startswith("random")])
def test_a_number_of_any_length_is_taken(name: str) -> None:
    assert sorted(order(re.sub(r"\d+", "9" * 30, name), (3, 4))) == list(range(12))


def test_random_orders_depend_on_the_seed_alone() -> None:
    assert order("random3", (4, 4)) == order("random3", (4, 4)) != order("random4", (4, 4))
    assert order("random3", (2, 3)) == [4, 3, 5, 0, 2, 1]  # written down: a genotype must mean the same tomorrow


@pytest.mark.parametrize("name", ["cw", "cw0", "snake_h", "hilbert2", "atrous", "atrous0", "random", "random-1", "random01"])
def test_other_spellings_are_refused_with_what_is_accepted(name: str) -> None:
    with pytest.raises(DirectionError, match=re.escape(f"is not a scan direction; accepted: {ACCEPTED}")):
        parse_direction(name)


def test_column_windows_are_padded_to_whole_windows_like_windows() -> None:
    assert parse_direction("cw4x3").padded_grid((14, 14)) == (16, 15)
    assert parse_direction("hilbert").padded_grid((7, 9)) == (7, 9)
    assert parse_direction("cw5x5_flip").name == "cw5_flip"


@pytest.mark.parametrize("grid", [(8, 8), (14, 14)])
@pytest.mark.parametrize("padding", ["none", "zeros"])
def test_the_sixteen_orders_of_extended16_differ(grid: tuple[int, int], padding: str) -> None:
    space = load_search_space("extended16")
    assert len(space.candidates) == 16 and duplicates(space.candidates, grid, padding=padding) == {}
