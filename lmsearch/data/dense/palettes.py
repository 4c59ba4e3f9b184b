"""Palettes of mask files: the same number should have the same colour in each of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from lmsearch.data.dense.masks import COLOURS, MaskClasses, hex_of
from lmsearch.data.reading import UNREADABLE, readable_formats
from lmsearch.paths import shown

log = logging.getLogger(__name__)


def say_palettes(paths: Iterable[Path], masks: MaskClasses) -> None:
    """Log where a class has another colour in the palette of one mask than in that of another: then numbers may be no classes."""
    if masks.colour:
        return
    seen: dict[int, tuple[int, Path]] = {}
    for path in paths:
        for number, colour in palette_of(path).items():
            first, where = seen.setdefault(number, (colour, path))
            if number in masks.values and first != colour:
                told = f"{number} is {hex_of(first)} in {where.name} and {hex_of(colour)} in {path.name}"
                hint = f"where colours are the classes, list them in {COLOURS[0]} (name,r,g,b)"
                text = "%s: palettes differ: %s; masks go by numbers, which some tools sort anew; %s"
                log.warning(text, shown(path), told, hint)
                return


def palette_of(path: Path) -> dict[int, int]:
    """Return the colour 0xRRGGBB of every number in the palette of a mask, by its header; none where it has no palette."""
    try:
        with Image.open(path, formats=readable_formats()) as image:
            levels = (image.getpalette("RGB") or []) if image.mode == "P" else []
    except UNREADABLE:
        return {}
    return {number: (r << 16) | (g << 8) | b for number, (r, g, b) in enumerate(zip(*[iter(levels)] * 3, strict=False))}
