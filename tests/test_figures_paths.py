"""Drawn scan paths: whoever follows the line from the dot to the square visits the tokens as the index table does."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes

from lmsearch.figures.orders import orders_figure
from lmsearch.files import figure_bytes
from lmsearch.scan.directions import PATTERNS, index_table, label, parse_direction
from lmsearch.scan.tables import table_name

EXAMPLES = ("h", "v", "w2", "w7", "w3x5", "cw2", "cw4x3", "snake", "snake_v", "antisnake", "antisnake_v", "diag",
            "antidiag", "zigzag", "morton", "hilbert", "spiral", "atrous2", "atrous3", "random7")  # fmt: skip
ORDERS = tuple(name + flip for name in EXAMPLES for flip in ("", "_flip"))
SVG = "{http://www.w3.org/2000/svg}"
Point = tuple[float, float]


def followed(lines: list[np.ndarray], start: Point) -> list[Point]:
    """Return the points that lie on the way from `start`, along lines (n, 2) that lead from each point to one other."""
    after = {tuple(a): tuple(b) for line in lines for a, b in zip(line, line[1:], strict=False)}
    assert len(after) == sum(len(line) - 1 for line in lines), "a token is left once"
    way = [start]
    while way[-1] in after:
        way.append(after[way[-1]])
    return way


def lines_of(axes: Axes) -> list[np.ndarray]:
    """Return the lines of the drawn path, in tokens (x, y)."""
    (path,) = [c for c in axes.collections if c.get_gid() == "path"]
    return [line for piece in path.get_paths() for line in np.split(piece.vertices, np.flatnonzero(piece.codes == 1)[1:])]


def test_every_pattern_has_an_example() -> None:
    for pattern in PATTERNS:
        assert any(re.fullmatch(pattern.regex, name) for name in EXAMPLES), pattern.usage


@pytest.mark.parametrize("grid", [(14, 14), (7, 10)])
def test_the_drawn_path_of_every_order_is_its_table(grid: tuple[int, int]) -> None:
    tables = dict(zip(ORDERS, index_table(ORDERS, grid), strict=True))
    figure = orders_figure(tables, grid)
    for axes, (name, table) in zip(figure.axes, tables.items(), strict=True):
        dot, square = (np.array(line.get_data()).ravel() for line in axes.lines)
        way = followed(lines_of(axes), (dot[0], dot[1]))
        assert axes.get_title() == name
        assert [int(y) * grid[1] + int(x) for x, y in way] == table.tolist(), name
        assert way[-1] == tuple(square), name


def test_an_order_with_a_table_of_its_own_is_drawn_under_its_label() -> None:
    own = table_name("mine", {(2, 2): [3, 0, 2, 1]})
    figure = orders_figure({label(own): parse_direction(own).indices((2, 2))}, (2, 2))
    assert followed(lines_of(figure.axes[0]), (1, 1)) == [(1, 1), (0, 0), (0, 1), (1, 0)]
    assert figure.axes[0].get_title() == "mine"


@pytest.mark.parametrize("name", ["w7_flip", "hilbert", "random7"])
def test_the_path_in_the_svg_file_is_the_table(name: str) -> None:
    rows, columns = grid = (7, 10)
    (table,) = index_table((name,), grid)
    root = ElementTree.fromstring(figure_bytes(orders_figure({name: table}, grid), "svg"))
    (group,) = [g for g in root.iter(f"{SVG}g") if g.get("id") == "path"]
    texts = [piece for path in group.iter(f"{SVG}path") for piece in path.get("d", "").split("M")[1:]]
    lines = [np.array([pair.split() for pair in text.split("L")], dtype=float) for text in texts]
    points = np.concatenate(lines)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    scale = ((columns - 1) / (right - left), (rows - 1) / (bottom - top))
    tokens = [np.rint((line - (left, top)) * scale) for line in lines]
    y, x = divmod(int(table[0]), columns)
    assert [int(y) * columns + int(x) for x, y in followed(tokens, (x, y))] == table.tolist()


def test_a_grid_of_one_token_is_a_dot() -> None:
    figure = orders_figure({"h": [0]}, (1, 1))
    assert lines_of(figure.axes[0]) == [] and len(figure.axes[0].lines) == 2
