"""Scan orders: the path of each over a token grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmsearch.figures.canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4


def orders_figure(orders: Mapping[str, Sequence[int]], grid: tuple[int, int]) -> Figure:
    """Draw one panel per order of L tokens: its path over the grid (H, W), dark to light, a dot on the first token."""
    from matplotlib.collections import LineCollection

    columns = min(COLUMNS, len(orders))
    rows = math.ceil(len(orders) / columns)
    figure = new_figure(2.2 * columns, 2.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for panel, (name, order) in zip(panels.flat, orders.items(), strict=False):  # panels may be left over
        y, x = np.divmod(np.asarray(order), grid[1])
        points = np.stack([x, y], axis=1)  # (L, 2)
        steps = np.stack([points[:-1], points[1:]], axis=1)  # (L - 1, 2, 2)
        panel.add_collection(LineCollection(list(steps), array=np.arange(len(steps)), cmap="viridis", linewidth=1.5))
        panel.plot(x[:1], y[:1], "o", color="black", markersize=4)
        panel.set(xlim=(-0.6, grid[1] - 0.4), ylim=(grid[0] - 0.4, -0.6), aspect="equal")
        panel.set_title(name, fontsize=9)
    return figure
