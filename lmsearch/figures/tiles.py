"""A map of numbers as small tiles with names, quick enough to draw after every epoch: no matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TILE, LINE = 22, 14  # pixels: of a tile's side, of a line of text
LOW, HIGH = (243, 240, 250), (63, 0, 125)  # colours of the least and the most
EMPTY = (255, 255, 255)


def tiles(layers: Mapping[str, Mapping[str, float]]) -> Image.Image:
    """Draw a row per layer and a column per direction, pale for the least value of all and dark for the most; NaN is white."""
    names = list(dict.fromkeys(name for values in layers.values() for name in values))
    values = np.array([[mine.get(name, math.nan) for name in names] for mine in layers.values()], dtype=float)
    known = values[np.isfinite(values)]
    least, most = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    shares = (values - least) / ((most - least) or 1.0)
    font = ImageFont.load_default(size=11)
    left = 8 + max((int(font.getlength(layer)) for layer in layers), default=0)
    top = 8 + max((int(font.getlength(name)) for name in names), default=0)
    image = Image.new("RGB", (left + TILE * len(names) + 8, top + TILE * len(layers) + LINE + 8), "white")
    draw = ImageDraw.Draw(image)
    for column, name in enumerate(names):
        written = Image.new("RGB", (top, LINE), "white")
        ImageDraw.Draw(written).text((2, 0), name, font=font, fill="black")
        image.paste(written.rotate(90, expand=True), (left + TILE * column + (TILE - LINE) // 2, 0))
    for row, layer in enumerate(layers):
        draw.text((2, top + TILE * row + 4), layer, font=font, fill="black")
        for column in range(len(names)):
            corner = (left + TILE * column, top + TILE * row)
            draw.rectangle((*corner, corner[0] + TILE - 2, corner[1] + TILE - 2), fill=_colour(shares[row, column]))
    draw.text((left, top + TILE * len(layers) + 4), f"{least:.4g} to {most:.4g}", font=font, fill="black")
    return image


def _colour(share: float) -> tuple[int, int, int]:
    """Return the colour of a share in [0, 1]."""
    if not math.isfinite(share):
        return EMPTY
    red, green, blue = (round(low + share * (high - low)) for low, high in zip(LOW, HIGH, strict=True))
    return red, green, blue
