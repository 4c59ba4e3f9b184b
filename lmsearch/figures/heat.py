"""What a network looks at, as maps: receptive field, attention of a layer's directions, saliency on an image.

Shapes: images (h, w) or (h, w, 3) of [0, 1]; maps (h, w); tokens of a grid (H, W), L = H * W.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lmsearch.figures.canvas import new_figure, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4
LEAST = 1e-4  # of the largest value, at which the colours of attention begin


def receptive_figure(field: ArrayLike, *, token: tuple[int, int], grid: tuple[int, int], title: str = "") -> Figure:
    """Draw an effective receptive field (h, w) of [0, 1]; a ring marks the token (row, column) of the grid (H, W)."""
    field = np.asarray(field, dtype=float)
    figure = new_figure(5.2, 4.4 * max(0.5, field.shape[0] / field.shape[1]))
    axes = figure.subplots()
    image = axes.imshow(field**0.25, cmap="magma", vmin=0.0, vmax=1.0)
    height, width = (side / tokens for side, tokens in zip(field.shape, grid, strict=True))
    place = ((token[1] + 0.5) * width - 0.5, (token[0] + 0.5) * height - 0.5)
    axes.plot(*place, "o", markersize=10, markerfacecolor="none", markeredgecolor="#00e5ff", markeredgewidth=1.8)
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, label="gradient, fourth root of its share of the largest")
    return figure


def attention_figure(matrices: Mapping[str, ArrayLike], grid: tuple[int, int], *, token: int, title: str = "") -> Figure:
    """Draw for every direction what one token takes of all others, on the grid (H, W), above the whole matrix (L, L).

    `matrices` hold |attention| with a row per token that takes, in raster order; `token` is its number. Colours are logarithmic,
    with one scale for all.
    """
    from matplotlib.colors import LogNorm

    arrays = {name: np.asarray(matrix, dtype=float) for name, matrix in matrices.items()}
    largest = max((float(matrix.max()) for matrix in arrays.values()), default=0.0) or 1.0
    norm = LogNorm(LEAST * largest, largest, clip=True)
    columns = min(COLUMNS, len(arrays))
    rows = 2 * math.ceil(len(arrays) / columns)
    figure = new_figure(2.2 * columns + 1.2, 2.3 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[], frame_on=False)
    drawn = None
    for number, (name, matrix) in enumerate(arrays.items()):
        above, below = panels[2 * (number // columns) : 2 * (number // columns) + 2, number % columns]
        above.imshow(matrix[token].reshape(grid), cmap="magma", norm=norm)
        row, column = divmod(token, grid[1])
        above.plot(column, row, "o", markersize=7, markerfacecolor="none", markeredgecolor="#00e5ff", markeredgewidth=1.5)
        above.set_title(shortened(name), fontsize=9)
        drawn = below.imshow(matrix, cmap="magma", norm=norm)
        if number % columns == 0:
            above.set_ylabel("one token takes", fontsize=8)
            below.set_ylabel("all tokens take", fontsize=8)
    if drawn is not None:
        figure.colorbar(drawn, ax=list(panels.flat), label="|attention|, mean over channels", shrink=0.6)
    figure.suptitle(title, fontsize=10)
    return figure


def saliency_figure(image: ArrayLike, saliency: ArrayLike, *, title: str = "") -> Figure:
    """Draw an image beside what its pixels add to a class (h, w): blue against it, red for it."""
    image, saliency = np.asarray(image, dtype=float), np.asarray(saliency, dtype=float)
    figure = new_figure(8.4, 4.0 * max(0.5, image.shape[0] / image.shape[1]))
    left, right = figure.subplots(1, 2)
    left.imshow(np.clip(image, 0.0, 1.0), cmap="gray", vmin=0.0, vmax=1.0)
    most = float(np.quantile(np.abs(saliency), 0.995)) or 1.0
    drawn = right.imshow(saliency, cmap="RdBu_r", vmin=-most, vmax=most)
    for axes, name in ((left, "image"), (right, "what each pixel adds")):
        axes.set_axis_off()
        axes.set_title(name, fontsize=9)
    figure.colorbar(drawn, ax=right, label="added to the logit")
    figure.suptitle(title, fontsize=10)
    return figure
