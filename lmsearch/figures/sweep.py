"""Figures of a sweep: the metric over the trials, or two metrics with their Pareto front."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lmsearch.files import write_figure
from lmsearch.sweep.results import Row
from lmsearch.sweep.study import Plan

BEST_COLOUR, TRIAL_COLOUR = "#d1495b", "#8d99ae"


def draw(path: Path, plan: Plan, rows: list[Row], front: list[Row]) -> None:
    """Write the figure that fits the number of metrics, as a PNG."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    complete = [row for row in rows if row.values]
    if len(plan.goal.metrics) == 2:
        draw_front(axes, plan, complete, front)
    else:
        draw_history(axes, plan, complete)
    axes.set_title(f"lmsearch {plan.task}: {len(complete)} complete trials of {len(rows)}", fontsize=10)
    axes.legend(frameon=False)
    write_figure(path, figure)


def draw_history(axes: Axes, plan: Plan, complete: list[Row]) -> None:
    """Draw the metric of every complete trial and the best so far."""
    complete = sorted(complete, key=lambda row: row.number)
    better = max if plan.goal.directions[0] == "maximize" else min
    numbers, values = [row.number for row in complete], [row.values[0] for row in complete]
    best = [better(values[: i + 1]) for i in range(len(values))]
    axes.plot(numbers, values, "o", color=TRIAL_COLOUR, label="trial")
    axes.plot(numbers, best, drawstyle="steps-post", color=BEST_COLOUR, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{plan.goal.metrics[0]} ({plan.goal.directions[0]})")


def draw_front(axes: Axes, plan: Plan, complete: list[Row], front: list[Row]) -> None:
    """Draw the second metric against the first, and the trials that no other beats in both."""
    axes.plot(*_pairs(complete), "o", color=TRIAL_COLOUR, label="trial")
    axes.plot(*_pairs(front), "o-", color=BEST_COLOUR, label="Pareto front")
    for row in front:
        axes.annotate(str(row.number), row.values, xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel(f"{plan.goal.metrics[0]} ({plan.goal.directions[0]})")
    axes.set_ylabel(f"{plan.goal.metrics[1]} ({plan.goal.directions[1]})")


def _pairs(rows: list[Row]) -> tuple[list[float], list[float]]:
    """Return the first and the second values."""
    return [row.values[0] for row in rows], [row.values[1] for row in rows]
