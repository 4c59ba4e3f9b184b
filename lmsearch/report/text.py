"""Drawings in plain text, for a terminal: readable without colour.

Shapes: grids (H, W); maps (H, W) of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

SHADES = " .:-=+*#%@"  # of a map, from nothing to the most
BARS = "▁▂▃▄▅▆▇█"
WIDEST = 60  # columns of a map; larger ones are averaged
LONGEST = 40  # values of a series; of longer ones every few are taken


def order_lines(order: Sequence[int], grid: tuple[int, int]) -> list[str]:
    """Return the time, counted from 1, at which a scan order visits every token, a line per row of the grid."""
    times = np.empty(len(order), dtype=int)
    times[np.asarray(order)] = np.arange(1, len(order) + 1)
    width = len(str(len(order)))
    return [" ".join(f"{time:{width}}" for time in row) for row in times.reshape(grid)]


def map_lines(values: ArrayLike) -> list[str]:
    """Return a map as shades, each token as two characters: a blank for 0, "@" for the largest value; the sign is not shown."""
    sizes = np.abs(np.asarray(values, dtype=float))
    step = math.ceil(max(sizes.shape) / WIDEST)
    height, width = (-(-side // step) * step for side in sizes.shape)
    padded = np.full((height, width), np.nan)
    padded[: sizes.shape[0], : sizes.shape[1]] = sizes
    small = np.nanmean(padded.reshape(height // step, step, width // step, step), axis=(1, 3))
    shares = small / (small.max() or 1.0)
    places = np.ceil(shares * (len(SHADES) - 1)).astype(int)
    return ["".join(2 * SHADES[place] for place in row).rstrip() for row in places]


def spark(values: Sequence[float], *, least: float, most: float) -> str:
    """Return a series as bars between the least and the most, a blank where a value is no number."""
    values = values[:: -(-len(values) // LONGEST)] if values else values
    span = (most - least) or 1.0
    places = [None if math.isnan(v) else round((v - least) / span * (len(BARS) - 1)) for v in values]
    return "".join(" " if place is None else BARS[place] for place in places)


def series_lines(layers: Mapping[str, Mapping[str, Sequence[float]]], kept: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a line per layer and direction: the series as bars, its last value, and whether the direction is kept."""
    values = [v for lines in layers.values() for line in lines.values() for v in line if not math.isnan(v)]
    least, most = min(values, default=0.0), max(values, default=0.0)
    width = max((len(name) for lines in layers.values() for name in lines), default=0)
    found = []
    for layer, lines in layers.items():
        found.append(layer)
        for name, line in lines.items():
            mark = "kept" if name in kept.get(layer, ()) else ""
            found.append(f"  {name:{width}}  {spark(line, least=least, most=most)}  {line[-1]:+.4f}  {mark}".rstrip())
    return found
