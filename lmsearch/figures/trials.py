"""Trials of a sweep or of a discrete search: one value over time, or two values with their Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmsearch.figures.canvas import BEST_COLOUR, OTHER_COLOUR, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (6.4, 4.2)  # inches
Point = tuple[float, float]


def history_figure(numbers: Sequence[int], values: Sequence[float], *, maximise: bool, label: str, title: str = "") -> Figure:
    """Draw the value of every trial over its number, in the order given, and the best value so far."""
    figure = new_figure(*SIZE)
    axes = figure.subplots()
    better = max if maximise else min
    best = [better(values[: i + 1]) for i in range(len(values))]
    axes.plot(numbers, values, "o", color=OTHER_COLOUR, label="trial")
    axes.plot(numbers, best, drawstyle="steps-post", color=BEST_COLOUR, label="best so far")
    axes.set(xlabel="trial", ylabel=label)
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False)
    return figure


def front_figure(
    points: Sequence[Point], front: Sequence[Point], *, labels: tuple[str, str], names: Sequence[str] = (), title: str = ""
) -> Figure:
    """Draw two values per trial (x, y), and those that no other beats in both, in the order given and with their `names`."""
    figure = new_figure(*SIZE)
    axes = figure.subplots()
    axes.plot([x for x, _ in points], [y for _, y in points], "o", color=OTHER_COLOUR, label="trial")
    axes.plot([x for x, _ in front], [y for _, y in front], "o-", color=BEST_COLOUR, label="Pareto front")
    for point, name in zip(front, names, strict=False):  # names are optional
        axes.annotate(name, point, xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False)
    return figure
