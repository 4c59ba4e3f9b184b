"""What directions do in a supernet: layers by directions, and the way from hand-made to searched directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmsearch.figures.canvas import BEST_COLOUR, OTHER_COLOUR, new_figure, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def importance_figure(
    values: Mapping[str, Mapping[str, float]],
    kept: Mapping[str, Sequence[str]],
    path: Sequence[float],
    *,
    start: str = "hand-made",
    title: str = "",
) -> Figure:
    """Draw {layer: {direction: held-out loss that it saves}}, kept ones dotted, beside the losses on the way from `start`.

    `path` holds the loss of `start`, then that with one more layer of the kept directions, to all of them.
    """
    layers, names = list(values), list(dict.fromkeys(name for mine in values.values() for name in mine))
    grid = np.array([[values[layer].get(name, np.nan) for name in names] for layer in layers])
    most = float(np.nanmax(np.abs(grid), initial=0.0)) or 1.0
    figure = new_figure(5.6 + 0.5 * len(names), max(3.4, 1.6 + 0.34 * len(layers)))
    left, right = figure.subplots(1, 2, width_ratios=(1.2 + 0.5 * len(names), 3.6))
    drawn = left.imshow(grid, cmap="PuOr", vmin=-most, vmax=most, aspect="auto")
    for y, layer in enumerate(layers):
        mine = [x for x, name in enumerate(names) if name in kept[layer]]
        left.plot(mine, [y] * len(mine), "o", color="black", markersize=4)
    left.set_xticks(range(len(names)), [shortened(name) for name in names], rotation=45, ha="right", fontsize=8)
    left.set_yticks(range(len(layers)), [shortened(layer) for layer in layers], fontsize=8)
    left.set_title("held-out loss that a direction saves (dot: kept)", fontsize=9)
    figure.colorbar(drawn, ax=left)
    right.plot(range(len(path)), path, "o-", color=OTHER_COLOUR)
    right.plot([0, len(path) - 1], [path[0], path[-1]], "o", color=BEST_COLOUR)
    right.set(xlabel="layers with searched directions", ylabel="held-out loss of the supernet")
    right.locator_params(axis="x", integer=True)
    right.set_title(f"from {start} to searched", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure
