"""How directions moved during a search: one panel per layer, one line per direction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lmsearch.figures.canvas import OTHER_COLOUR, colour, new_figure, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3
MARKED = 30  # epochs up to which each gets a dot


def worth_figure(
    epochs: Sequence[int],
    layers: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    kept: Mapping[str, Sequence[str]] | None = None,
    label: str,
    title: str = "",
) -> Figure:
    """Draw the value of every direction of every layer over the epochs, counted from 0; a value may be NaN.

    `kept` names directions by layer: theirs are coloured lines, thick, those of the others thin and grey. None: all coloured.
    """
    columns = min(COLUMNS, len(layers))
    rows = math.ceil(len(layers) / columns)
    figure = new_figure(3.6 * columns + 0.6, 2.3 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False)
    mine = {layer: list(lines) if kept is None else list(kept.get(layer, ())) for layer, lines in layers.items()}
    colours = {name: colour(n) for n, name in enumerate(dict.fromkeys(name for names in mine.values() for name in names))}
    for panel in panels.flat[len(layers) :]:
        panel.set_axis_off()
    for panel, (layer, lines) in zip(panels.flat, layers.items(), strict=False):  # panels may be left over
        for name, values in sorted(lines.items(), key=lambda line: line[0] in mine[layer]):  # kept ones on top
            chosen = name in mine[layer]
            panel.plot(
                [epoch + 1 for epoch in epochs], values, marker="." if len(epochs) <= MARKED else "",
                color=colours[name] if chosen else OTHER_COLOUR, linewidth=1.8 if chosen else 0.8,
                label=shortened(name) if chosen else "_",
            )  # fmt: skip
        panel.set_title(shortened(layer), fontsize=9, loc="left")
        panel.locator_params(axis="x", integer=True)
        panel.tick_params(labelsize=8)
        if mine[layer]:
            panel.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel(label, fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure
