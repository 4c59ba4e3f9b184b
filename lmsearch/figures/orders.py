"""Pictures of scan orders: the path of every direction over a token grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmsearch.files import write_figure
from lmsearch.scan.directions import Grid, index_table, label

COLUMNS = 4


def save_orders_figure(directions: Sequence[str], grid: Grid, path: Path) -> None:
    """Write a PNG with one panel per direction: its path over `grid`, dark to light in time, a dot on the first token.

    Raises DirectionError for a name that is no direction, and where a direction has no order on `grid`.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.collections import LineCollection

    table = index_table(tuple(directions), grid)  # (K, L)
    columns = min(COLUMNS, len(directions))
    rows = math.ceil(len(directions) / columns)
    figure, panels = plt.subplots(rows, columns, figsize=(2.2 * columns, 2.4 * rows), layout="constrained", squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for panel, name, order in zip(panels.flat, directions, table, strict=False):  # panels may be left over
        y, x = np.divmod(order, grid[1])
        points = np.stack([x, y], axis=1)  # (L, 2)
        steps = np.stack([points[:-1], points[1:]], axis=1)  # (L - 1, 2, 2)
        panel.add_collection(LineCollection(steps, array=np.arange(len(steps)), cmap="viridis", linewidth=1.5))
        panel.plot(x[:1], y[:1], "o", color="black", markersize=4)
        panel.set(xlim=(-0.6, grid[1] - 0.4), ylim=(grid[0] - 0.4, -0.6), aspect="equal")
        panel.set_title(label(name), fontsize=9)
    write_figure(path, figure)
    plt.close(figure)
