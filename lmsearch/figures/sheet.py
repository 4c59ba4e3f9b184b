"""A contact sheet: thumbnails of images with lines of text below each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

SIDE, MARGIN, LINE = 128, 8, 16  # pixels: of a thumbnail, around it, of a line of text
MOST = 100  # thumbnails of a sheet


class Cell(NamedTuple):
    """One thumbnail; an image that cannot be read is None."""

    image: Image.Image | None
    lines: tuple[str, ...]


def spaced(number: int, *, most: int = MOST) -> list[int]:
    """Return at most `most` places of range(number), evenly spaced."""
    return list(range(number)) if number <= most else [place * number // most for place in range(most)]


def contact_sheet(cells: Sequence[Cell]) -> Image.Image:
    """Return a sheet of at least one cell."""
    import matplotlib  # slow to import; its font knows more letters than Pillow's

    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), 12)
    columns = min(10, math.ceil(math.sqrt(len(cells))))
    width, height = SIDE + MARGIN, SIDE + MARGIN + LINE * max(len(cell.lines) for cell in cells)
    sheet = Image.new("RGB", (columns * width + MARGIN, math.ceil(len(cells) / columns) * height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for place, cell in enumerate(cells):
        left, top = MARGIN + place % columns * width, MARGIN + place // columns * height
        if cell.image is None:
            draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), outline="red")
        else:
            thumbnail = _fitted(cell.image)
            sheet.paste(thumbnail, (left + (SIDE - thumbnail.width) // 2, top + (SIDE - thumbnail.height) // 2))
        for row, line in enumerate(cell.lines):
            colour = "red" if cell.image is None else "black"
            draw.text((left, top + SIDE + LINE * row), _shortened(line, font), font=font, fill=colour)
    return sheet


def _fitted(image: Image.Image) -> Image.Image:
    """Return the image scaled to the side of a thumbnail; a small one in whole steps, so that its pixels can be seen."""
    scale = SIDE / max(image.size)
    if scale >= 1:
        return image.resize((image.width * int(scale), image.height * int(scale)), Image.Resampling.NEAREST)
    return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)


def _shortened(line: str, font: ImageFont.FreeTypeFont) -> str:
    """Return the line, or its end, so that it is no wider than a thumbnail."""
    if font.getlength(line) <= SIDE:
        return line
    while font.getlength("…" + line) > SIDE:
        line = line[1:]
    return "…" + line
