"""What a classifier does class by class, in lines for the screen.

Shapes: C classes; counts (C, C), rows true classes, columns answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lmsearch.words import first_of

FEW = 20  # classes up to which each gets a line
WORST = 10  # classes that are named where there are more
NEARLY_ALL = 0.95  # share of the answers at which one class is said to take nearly all
HARDLY = 0.2  # share of the other classes' samples below which they are hardly found


def class_lines(names: Sequence[str], accuracy: Mapping[str, float | None], counts: np.ndarray) -> list[str]:
    """Return a line per class, worst first, or one line on the worst where there are many; accuracy None: no samples."""
    samples = dict(zip(names, counts.sum(1).tolist(), strict=True))
    shares = {name: share for name in names if (share := accuracy[name]) is not None}
    known = sorted(shares, key=lambda name: shares[name])
    if len(names) <= FEW:
        width = max(map(len, names))
        return [f"  {name:<{width}}  {shares[name]:.4f} of {samples[name]}" for name in known]
    worst = ", ".join(f"{name} {shares[name]:.4f} of {samples[name]}" for name in known[:WORST])
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
