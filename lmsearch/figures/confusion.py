"""A confusion matrix. Shapes: C classes; counts (C, C), rows true classes, columns answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lmsearch.figures.canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW = 20  # classes up to which each cell gets its number
MOST_LABELS = 100  # along an axis
LONGEST = 24  # characters of a name
MOST_COUNTED = 100_000  # largest count up to which cells show counts; beyond it, as of pixels, shares


def confusion_figure(names: Sequence[str], counts: ArrayLike, *, title: str) -> Figure:
    """Draw the confusion matrix: colours are shares of the true class, numbers (of few classes) are counts, or shares."""
    counts = np.asarray(counts)
    size, samples = len(names), counts.sum(1, keepdims=True)
    shares = np.divide(counts, samples, out=np.zeros(counts.shape), where=samples > 0)
    side = float(np.clip(2.5 + (0.45 if size <= FEW else 0.15) * size, 4.0, 18.0))
    figure = new_figure(side + 1.0, side)
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    places = range(0, size, -(-size // MOST_LABELS))
    labels = [names[i] if len(names[i]) <= LONGEST else names[i][: LONGEST - 1] + "…" for i in places]
    font = 9 if size <= FEW else 6
    axes.set_xticks(places, labels, rotation=90, fontsize=font, parse_math=False)  # names may hold $
    axes.set_yticks(places, labels, fontsize=font, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(title, fontsize=10)
    if size <= FEW:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            told = str(count) if counts.max() < MOST_COUNTED else f"{shares[row, column]:.2f}"
            text = axes.text(column, row, told, ha="center", va="center", fontsize=8, color=colour)
            text.set_in_layout(False)  # it lies inside the axes, and measuring it takes long
    figure.colorbar(drawn, ax=axes, fraction=0.04, label="share of the true class")
    return figure
