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


def say_palettes(held: Iterable[tuple[Path, Iterable[int]]], masks: MaskClasses) -> None:
    """Log where a class has another colour in the palette of one mask than in that of another: then numbers may be no classes.

    held: each mask with the classes that it has; what no pixel has counts for nothing, as formats pad palettes with black.
    """
    if masks.colour:
        return
    seen: dict[int, tuple[int, Path]] = {}
    for path, classes in held:
        palette = palette_of(path)
        for number in (masks.values[index] for index in classes):
            if (colour := palette.get(number)) is None:
                continue
            first, where = seen.setdefault(number, (colour, path))
            if first != colour:
                told = f"{number} is {hex_of(first)} in {where.name} and {hex_of(colour)} in {path.name}"
                hint = f"where colours are the classes, list them in {COLOURS[0]} (name,r,g,b)"
                text = "%s: palettes differ: %s; masks go by numbers, which some tools sort anew; %s"
                log.warning(text, shown(path), told, hint)
                return


def palette_of(path: Path) -> dict[int, int]:
    """Return the colour 0xRRGGBB of every number in the palette of a mask; none where it has no palette."""
    try:
        with Image.open(path, formats=readable_formats()) as image:
            levels = (image.getpalette("RGB") or []) if image.mode == "P" else []
    except UNREADABLE:
        return {}
    return {number: (r << 16) | (g << 8) | b for number, (r, g, b) in enumerate(zip(*[iter(levels)] * 3, strict=False))}
