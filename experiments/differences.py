"""What studies with paired differences share: a mean with its interval, and one panel of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lmsearch.figures.canvas import colour, new_figure
from lmsearch.files import write_figure
from lmsearch.stats.intervals import over_seeds


def span(values: Sequence[float] | np.ndarray) -> list[float]:
    """Return mean, low and high of a value per seed (Student's t, 95 %); only the mean where there is one seed."""
    if len(values) < 2:
        return [round(float(v), 5) for v in values]
    found = over_seeds([float(v) for v in values])
    return [round(v, 5) for v in (found.mean, found.low, found.high)]


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Return ours minus theirs of every seed that both have, seeds ascending."""
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def draw_differences(groups: Mapping[str, Mapping[str, Sequence[float]]], path: Path, *, label: str, title: str) -> None:
    """Draw means with their intervals as one horizontal panel, groups in colours; nothing where there are none."""
    spans = [(group, name, values) for group, named in groups.items() for name, values in named.items() if len(values) == 3]
    if not spans:
        return
    figure = new_figure(7.5, 1.2 + 0.24 * len(spans))
    axes, names = figure.subplots(), list(groups)
    for y, (group, _, (mean, low, high)) in enumerate(reversed(spans)):
        axes.errorbar(
            mean, y, xerr=[[mean - low], [high - mean]], fmt="o", color=colour(names.index(group)), capsize=2, markersize=4
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(spans)), [f"{group}: {name}" for group, name, _ in reversed(spans)], fontsize=8)
    axes.set(xlabel=label, ylim=(-0.7, len(spans) - 0.3))
    axes.set_title(title, fontsize=10)
    write_figure(path, figure)
