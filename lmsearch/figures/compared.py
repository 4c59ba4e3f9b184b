"""Ways to search beside each other: what they say of architectures against what these do, and how fast they find good ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmsearch.figures.canvas import BEST_COLOUR, OTHER_COLOUR, colour, new_figure, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pairs = tuple[Sequence[float], Sequence[float]]  # x and y of every architecture


def scatter_figure(
    panels: Mapping[str, Pairs],
    *,
    labels: tuple[str, str],
    marked: Mapping[str, Mapping[int, str]] | None = None,
    title: str = "",
) -> Figure:
    """Draw a panel per name: a dot for every architecture. `marked` names some by their places; `labels` names the axes."""
    figure = new_figure(3.4 * len(panels) + 0.4, 3.5)
    for axes, (name, (x, y)) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axes.plot(x, y, "o", color=OTHER_COLOUR, markersize=4, alpha=0.8)
        for place, text in (marked or {}).get(name, {}).items():
            axes.plot([x[place]], [y[place]], "o", color=BEST_COLOUR, markersize=7)
            axes.annotate(shortened(text), (x[place], y[place]), xytext=(6, -10), textcoords="offset points", fontsize=8)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel(labels[0], fontsize=9)
        axes.locator_params(nbins=4)
        axes.tick_params(labelsize=8)
    figure.axes[0].set_ylabel(labels[1], fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def race_figure(
    curves: Mapping[str, Sequence[Sequence[float]]], *, cost: str, label: str, title: str = "", log: bool = False
) -> Figure:
    """Draw a line per way to search: the mean of its runs, and a band from the lower to the upper quartile.

    `curves` holds runs of one length each: the best so far after 1, 2, ... units of `cost`. With `log` the y axis is logarithmic.
    """
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    for number, (name, runs) in enumerate(curves.items()):
        values = np.asarray(runs, dtype=float)  # (runs, units)
        x = range(1, values.shape[1] + 1)
        axes.plot(x, values.mean(0), color=colour(number), linewidth=1.8, label=shortened(name))
        if len(values) > 1:
            low, high = np.quantile(values, (0.25, 0.75), axis=0)
            axes.fill_between(x, low, high, color=colour(number), alpha=0.15, linewidth=0)
    axes.set(xlabel=cost, ylabel=label, yscale="symlog" if log else "linear")
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(title, fontsize=10)
    return figure
