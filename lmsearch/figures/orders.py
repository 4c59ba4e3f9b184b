"""Scan orders: the path of each over a token grid, also over an image, and those of every layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lmsearch.figures.canvas import new_figure, shortened, underlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path

Orders = Mapping[str, Sequence[int]]  # raster index i * W + j of every visited token, by name
Grid = tuple[int, int]
COLUMNS = 4
PIECES = 16  # parts of a path, each of one colour: few make small files
FADES = (0.0, 0.82)  # of plasma: its yellow end cannot be seen on white


def orders_figure(orders: Orders, grid: Grid, *, image: ArrayLike | None = None, columns: int = COLUMNS) -> Figure:
    """Draw one panel per order of L tokens: its path over the grid (H, W), dark to light, a dot on the first token.

    `image` (H', W') or (H', W', 3), values of [0, 1], is drawn pale below, stretched over the grid.
    """
    columns = min(columns, len(orders))
    rows = math.ceil(len(orders) / columns)
    width, height = _panel_size(grid)
    figure = new_figure(width * columns, (height + 0.25) * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for panel, (name, order) in zip(panels.flat, orders.items(), strict=False):  # panels may be left over
        draw_path(panel, order, grid, image=image)
        panel.set_title(shortened(name), fontsize=9)
    return figure


def layers_figure(
    layers: Mapping[str, Orders], grids: Mapping[str, Grid], *, image: ArrayLike | None = None, title: str = ""
) -> Figure:
    """Draw a row per layer: the paths of its directions over its own grid, above `image` if there is one."""
    columns = max(len(orders) for orders in layers.values())
    figure = new_figure(1.2 + 1.7 * columns, 0.4 + 1.95 * len(layers))
    panels = figure.subplots(len(layers), columns, squeeze=False)
    for row, (layer, orders) in zip(panels, layers.items(), strict=True):
        for panel in row:
            panel.set(xticks=[], yticks=[], frame_on=False)
        row[0].set_ylabel(shortened(layer), rotation=0, ha="right", va="center", fontsize=9)
        for panel, (name, order) in zip(row, orders.items(), strict=False):  # other layers may hold more
            draw_path(panel, order, grids[layer], image=image)
            panel.set_title(shortened(name), fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def draw_path(panel: Axes, order: Sequence[int], grid: Grid, *, image: ArrayLike | None = None) -> None:
    """Draw a path, begun by a dot and ended by a square; a step to a token that is no neighbour is thin."""
    from matplotlib import colormaps
    from matplotlib.collections import PathCollection

    y, x = np.divmod(np.asarray(order), grid[1])
    points = np.stack([x, y], axis=1)  # (L, 2)
    if image is not None:
        underlay(panel, np.asarray(image, dtype=float), (-0.5, grid[1] - 0.5, grid[0] - 0.5, -0.5))
        panel.plot(x, y, color="white", linewidth=2.8, alpha=0.7, zorder=0.5)
    shares, widths, pieces = zip(*pieces_of(points), strict=True) if len(points) > 1 else ((), (), ())
    shades = colormaps["plasma"](FADES[0] + (FADES[1] - FADES[0]) * np.array(shares))
    drawn = PathCollection(pieces, facecolors="none", edgecolors=list(shades), linewidths=widths, capstyle="round")
    drawn.set_gid("path")
    panel.add_collection(drawn)
    panel.plot(x[:1], y[:1], "o", color="black", markersize=5)
    panel.plot(x[-1:], y[-1:], "s", markerfacecolor="white", markeredgecolor="black", markersize=4)
    panel.set(xlim=(-0.6, grid[1] - 0.4), ylim=(grid[0] - 0.4, -0.6), aspect="equal")


def pieces_of(points: np.ndarray) -> Iterator[tuple[float, float, Path]]:
    """Yield (share of the way, line width, path) for PIECES parts of a path: its steps to neighbours, then its jumps."""
    from matplotlib.path import Path

    near = np.abs(np.diff(points, axis=0)).max(1) <= 1  # (L - 1,)
    for part in np.array_split(np.arange(len(near)), min(PIECES, len(near))):
        for width, chosen in ((1.8, part[near[part]]), (0.7, part[~near[part]])):
            if len(chosen):
                lines = np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1)  # without a gap in between
                vertices = np.concatenate([points[line[0] : line[-1] + 2] for line in lines])
                codes = [code for line in lines for code in (Path.MOVETO, *[Path.LINETO] * len(line))]
                yield part.mean() / len(near), width, Path(vertices, codes)


def _panel_size(grid: Grid) -> tuple[float, float]:
    """Return the inches of a panel: the longer side of the grid has 2.2."""
    scale = 2.2 / max(grid)
    return max(1.1, scale * grid[1]), max(1.1, scale * grid[0])
