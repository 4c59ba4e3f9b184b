"""How a training went: losses and scores over its epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lmsearch.figures.canvas import BEST_COLOUR, OTHER_COLOUR, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves_figure(epochs: Sequence[int], panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw a panel for every name, each with its curves by name, one value per epoch; the last curve of a panel stands out."""
    figure = new_figure(4.5 * len(panels), 3.2)
    for axes, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for place, (name, values) in enumerate(curves.items(), start=1):
            colour = BEST_COLOUR if place == len(curves) else OTHER_COLOUR
            axes.plot([epoch + 1 for epoch in epochs], values, color=colour, label=name, marker="." if len(epochs) < 30 else "")
        axes.set(xlabel="epoch", title=title)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    return figure
