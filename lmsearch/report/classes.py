"""What a classifier does class by class: lines for the screen, and the confusion matrix as a figure.

Shapes: C classes; counts (C, C), rows true classes, columns answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmsearch.words import first_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW = 20  # classes up to which each gets a line, and each cell of the figure its number
WORST = 10  # classes that are named where there are more
MOST_LABELS = 100  # along an axis of the figure
LONGEST = 24  # characters of a name in the figure
NEARLY_ALL = 0.95  # share of the answers at which one class is said to take nearly all
HARDLY = 0.2  # share of the other classes' samples below which they are hardly found


def class_lines(names: Sequence[str], accuracy: Mapping[str, float | None], counts: np.ndarray) -> list[str]:
    """Return a line per class, worst first, or one line on the worst where there are many; accuracy None: no samples."""
    samples = dict(zip(names, counts.sum(1).tolist(), strict=True))
    known = sorted((name for name in names if accuracy[name] is not None), key=lambda name: accuracy[name])
    if len(names) <= FEW:
        width = max(map(len, names))
        return [f"  {name:<{width}}  {accuracy[name]:.4f} of {samples[name]}" for name in known]
    worst = ", ".join(f"{name} {accuracy[name]:.4f} of {samples[name]}" for name in known[:WORST])
    return [f"  worst of {len(names)} classes: {worst}"]


def absent(names: Sequence[str], counts: np.ndarray) -> str | None:
    """Say which classes have no samples, or return None where all have some."""
    missing = [name for name, samples in zip(names, counts.sum(1), strict=True) if samples == 0]
    if not missing:
        return None
    return f"no samples of {first_of(missing, WORST)}: left out of the balanced accuracy"


def one_sided(names: Sequence[str], counts: np.ndarray) -> str | None:
    """Say so where one class takes nearly all answers and the others are hardly found, else return None."""
    total, answered = counts.sum(), counts.sum(0)
    top = int(answered.argmax())
    others = np.arange(len(counts)) != top
    rest, found = int(counts[others].sum()), int(counts.diagonal()[others].sum())
    if rest == 0 or answered[top] < NEARLY_ALL * total or found > HARDLY * rest:
        return None
    return f"{answered[top]} of {total} answers are {names[top]!r}; of the {rest} samples of other classes {found} are right"


def confusion_figure(names: Sequence[str], counts: np.ndarray, *, title: str) -> Figure:
    """Return the confusion matrix: colours are shares of the true class, numbers (of few classes) are samples."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    size, samples = len(names), counts.sum(1, keepdims=True)
    shares = np.divide(counts, samples, out=np.zeros(counts.shape), where=samples > 0)
    side = float(np.clip(2.5 + (0.45 if size <= FEW else 0.15) * size, 4.0, 18.0))
    figure = Figure(figsize=(side + 1.0, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    places = range(0, size, -(-size // MOST_LABELS))
    labels = [names[i] if len(names[i]) <= LONGEST else names[i][: LONGEST - 1] + "…" for i in places]
    font = 9 if size <= FEW else 6
    axes.set_xticks(places, labels, rotation=90, fontsize=font, parse_math=False)  # names may hold $
    axes.set_yticks(places, labels, fontsize=font, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title, fontsize=10)
    if size <= FEW:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(drawn, ax=axes, fraction=0.04, label="share of the true class")
    return figure
