"""Palettes of mask files: the same number should have the same colour in each of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

from lmsearch.data.dense.masks import COLOURS, hex_of
from lmsearch.paths import shown

log = logging.getLogger(__name__)


def say_palettes(held: Iterable[tuple[Path, Mapping[int, int]]]) -> None:
    """Log where a class has another colour in the palette of one mask than in that of another: then numbers may be no classes.

    held: each mask with the colours of the numbers that it has.
    """
    seen: dict[int, tuple[int, Path]] = {}
    for path, colours in held:
        for number, colour in colours.items():
            first, where = seen.setdefault(number, (colour, path))
            if first != colour:
                told = f"{number} is {hex_of(first)} in {where.name} and {hex_of(colour)} in {path.name}"
                hint = f"where colours are the classes, list them in {COLOURS[0]} (name,r,g,b)"
                text = "%s: palettes differ: %s; masks go by numbers, which some tools sort anew; %s"
                log.warning(text, shown(path), told, hint)
                return


def colours_in(image: Image.Image, numbers: Iterable[int]) -> dict[int, int]:
    """Return the colours 0xRRGGBB that the palette of an open mask has for numbers of its pixels; none without a palette.

    What no pixel has counts for nothing, as formats pad palettes with black.
    """
    levels = (image.getpalette("RGB") or []) if image.mode == "P" else []
    palette = [(r << 16) | (g << 8) | b for r, g, b in zip(*[iter(levels)] * 3, strict=False)]
    return {number: palette[number] for number in numbers if number < len(palette)}
