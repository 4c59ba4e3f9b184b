"""A figure of its own: it belongs to no window and to no list of open figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEST_COLOUR, OTHER_COLOUR = "#d1495b", "#8d99ae"


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches, that can be saved in any format and shown in a notebook."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
