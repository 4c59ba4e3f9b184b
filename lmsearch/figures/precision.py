"""Precision over recall of detections. Shapes: R recalls from 0 to 1; C classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmsearch.figures.canvas import colour, new_figure, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW = 8  # classes up to which each has its colour and name


def precision_figure(names: Sequence[str], panels: Mapping[str, np.ndarray]) -> Figure:
    """Draw a panel for every name with curves (R, C) of precision over recall, nan of classes without objects, and their mean."""
    figure = new_figure(4.5 * len(panels), 3.6)
    for axes, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        recalls = np.linspace(0, 1, len(curves))
        known = np.flatnonzero(~np.isnan(curves).all(0)).tolist()
        few = len(known) <= FEW
        for place, label in enumerate(known):
            name = f" {shortened(names[label])}" if few else None  # a name that begins with _ would be left out
            axes.plot(recalls, curves[:, label], color=colour(place) if few else "0.8", linewidth=1, label=name)
        if known:
            axes.plot(recalls, curves[:, known].mean(1), color="black", linewidth=2.5, alpha=0.6, label=f"mean of {len(known)}")
        axes.set(xlabel="recall", ylabel="precision", title=title, xlim=(0, 1), ylim=(0, 1.02))
        for text in axes.legend(fontsize=8).get_texts() if known else ():
            text.set_parse_math(False)
        axes.grid(alpha=0.3)
    return figure
