"""The figure of an audit: what random architectures score, and how the arms of the race did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lmsearch.figures.canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def audit_figure(
    seeds: Sequence[Sequence[float]], arms: Mapping[str, Mapping[str, float]], *, labels: tuple[str, str], title: str
) -> Figure:
    """Draw two panels: scores of random architectures, a dot per seed, and the arms' mean, low and high.

    `seeds` holds the scores of one architecture each; `arms` is empty where the race is not complete. `labels` names both axes.
    """
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    for x, scores in enumerate(sorted(seeds, key=lambda scores: -sum(scores) / len(scores))):
        left.plot([x] * len(scores), scores, "o-", color="black", markersize=4, linewidth=0.8)
    left.set(xlabel="random architectures, best first; dots: seeds", ylabel=labels[0])
    for x, values in enumerate(arms.values()):
        error = [[values["mean"] - values["low"]], [values["high"] - values["mean"]]]
        right.errorbar(x, values["mean"], yerr=error, fmt="o", color="black", capsize=3)
    if arms:
        right.set_xticks(range(len(arms)), [name.replace(" ", "\n") for name in arms])
        right.set(xlim=(-0.5, len(arms) - 0.5), ylabel=labels[1])
    else:
        right.text(0.5, 0.5, "race not complete", ha="center", transform=right.transAxes)
    figure.suptitle(title, fontsize=10)
    return figure
