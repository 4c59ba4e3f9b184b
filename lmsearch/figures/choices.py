"""What a search chose: layers by candidates, with scores as colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmsearch.figures.canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BOX = {"boxstyle": "round,pad=0.15", "facecolor": "black", "alpha": 0.5, "linewidth": 0}


def choices_figure(
    scores: Sequence[Sequence[float]], marks: Sequence[Sequence[str]], *, layers: Sequence[str], candidates: Sequence[str],
    label: str, vmin: float | None = None, title: str = "", across: str = "scan direction",
) -> Figure:  # fmt: skip
    """Draw a cell per layer and candidate: its score as colour from `vmin` (None: the least), its mark as text.

    `scores` and `marks` hold a row per layer. A score may be NaN and a mark empty. Without a `label` colours mean nothing more
    than that there is a score, as where directions are kept or not. `across` says what the candidates are.
    """
    figure = new_figure(1.6 + 0.75 * len(candidates), 1.4 + 0.42 * len(layers))
    axes = figure.subplots()
    image = axes.imshow(scores, cmap="viridis" if label else "Purples", vmin=vmin, aspect="auto")
    for y, row in enumerate(marks):
        for x, mark in enumerate(row):
            if mark:
                axes.text(x, y, mark, ha="center", va="center", color="white", fontsize=8, fontweight="bold", bbox=BOX)
    axes.set_xticks(range(len(candidates)), candidates, rotation=30, ha="right")
    axes.set_yticks(range(len(layers)), layers)
    axes.set_xlabel(across)
    axes.set_title(title, fontsize=10)
    if label:
        figure.colorbar(image, label=label)
    return figure
