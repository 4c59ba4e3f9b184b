"""A figure of its own: it belongs to no window and to no list of open figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEST_COLOUR, OTHER_COLOUR = "#d1495b", "#8d99ae"
# Okabe and Ito's, which people of any colour vision tell apart, and those of them in other shades; yellow would fade on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7a5195")
LONGEST = 24  # characters of a name along an axis


def colour(number: int) -> str:
    """Return the colour of the line of this number; they come again after the last one."""
    return COLOURS[number % len(COLOURS)]


def shortened(name: str) -> str:
    """Return a name of at most LONGEST characters."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def underlay(axes: Axes, image: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    """Draw an image (H', W') or (H', W', 3) of [0, 1] pale under what follows, over left, right, bottom and top."""
    pale = 0.5 + 0.5 * np.clip(image, 0.0, 1.0)
    axes.imshow(pale, cmap="gray", vmin=0.0, vmax=1.0, extent=extent, interpolation="nearest", zorder=0)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches, that can be saved in any format and shown in a notebook."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
