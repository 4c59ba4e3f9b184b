"""Pictures with classes of pixels, or objects, drawn over them; labels beside answers.

Shapes: H W pixels, n objects. Maps (H, W) hold places in the class names; what lies beyond them is void and left as it is.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GOLDEN = 0.618034  # of the colour wheel between two classes that follow each other
GREY, OPACITY = (0.4, 0.4, 0.4), 0.6
GAP, LINE = 6, 16  # pixels between pictures, and of a line of text
LEAST_SIDE = 128  # pixels that a small picture is drawn with


class Masks(Protocol):
    """Masks (n, H, W) of which one (H, W) bool is asked for at a time; an array is one."""

    def __getitem__(self, place: int, /) -> Any:
        """Return one mask."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """The objects of one image: boxes (n, 4) of left, top, right, bottom, classes (n,), and masks (n, H, W) where there are some.

    `scores` (n,) are those of answers; truth has none.
    """

    boxes: np.ndarray
    classes: np.ndarray
    masks: Masks | None = None
    scores: np.ndarray | None = None


def class_colours(number: int) -> np.ndarray:
    """Return a colour (number, 3) uint8 for every class, neighbours far apart; the first, often the ground, is grey."""
    hues = [colorsys.hsv_to_rgb(place * GOLDEN % 1.0, 0.85, 0.95 if place % 2 == 0 else 0.7) for place in range(1, number)]
    return (np.array([GREY, *hues][:number]).reshape(-1, 3) * 255).round().astype(np.uint8)


def over_pixels(image: Image.Image, classes: np.ndarray, colours: np.ndarray) -> Image.Image:
    """Return an RGB picture with the colours of the classes (H, W) laid over it."""
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    known = classes < len(colours)
    pixels[known] = (1 - OPACITY) * pixels[known] + OPACITY * colours[classes[known]]
    return Image.fromarray(pixels.round().astype(np.uint8))


def over_objects(image: Image.Image, objects: Drawn, names: Sequence[str], colours: np.ndarray) -> Image.Image:
    """Return an RGB picture with masks, boxes and names of objects, the surest on top."""
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    order = np.arange(len(objects.boxes)) if objects.scores is None else np.argsort(objects.scores, kind="stable")
    if objects.masks is not None:
        for place in order.tolist():
            mask = objects.masks[place]
            pixels[mask] = (1 - OPACITY) * pixels[mask] + OPACITY * colours[objects.classes[place]]
    drawn = Image.fromarray(pixels.round().astype(np.uint8))
    draw, font = ImageDraw.Draw(drawn), _font(max(9, min(16, min(drawn.size) // 24)))
    for place in order.tolist():
        left, top, right, bottom = objects.boxes[place].tolist()
        label, colour = int(objects.classes[place]), tuple(colours[objects.classes[place]].tolist())
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour)
        text = names[label] if objects.scores is None else f"{names[label]} {objects.scores[place]:.2f}"
        where = (left + 1, max(0.0, top - font.size - 3))
        draw.rectangle(draw.textbbox(where, text, font=font), fill=colour)
        draw.text(where, text, font=font, fill="white")
    return drawn


def beside(rows: Sequence[Sequence[Image.Image]], titles: Sequence[str]) -> Image.Image:
    """Return pictures in rows, under the titles of their columns; small ones are enlarged in whole steps."""
    scale = max(1, -(-LEAST_SIDE // max(max(picture.size) for row in rows for picture in row)))
    wide = max(picture.width for row in rows for picture in row) * scale
    high = max(picture.height for row in rows for picture in row) * scale
    size = (GAP + len(titles) * (wide + GAP), LINE + GAP + len(rows) * (high + GAP))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), _font(12)
    for column, title in enumerate(titles):
        draw.text((GAP + column * (wide + GAP), 2), title, font=font, fill="black")
        for number, row in enumerate(rows):
            picture = row[column].resize([side * scale for side in row[column].size], Image.Resampling.NEAREST)
            sheet.paste(picture, (GAP + column * (wide + GAP), LINE + GAP + number * (high + GAP)))
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return a font that knows more letters than Pillow's."""
    import matplotlib  # slow to import

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
