"""A card to share: what a run found, as one picture of 1200 x 675 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

SIZE = (1200, 675)
MARGIN = 64
MAP = (690, 120, 1136, 560)  # left, top, right, bottom of the map
PAPER, INK, SOFT, EMPTY = "#ffffff", "#1c2128", "#535b66", "#eef1f4"
LOW, HIGH, FRAME = (226, 238, 247), (86, 160, 214), "#0a4a80"
TONES = {"good": "#14663a", "unsure": "#7a4b00", "bad": "#9c1c1c", "open": "#44505e"}
LARGEST, SMALLEST = 46, 26  # of the verdict's letters
LINES = 6  # of the verdict


class Tile(NamedTuple):
    """One cell of the map: how strong its colour is (0 to 1, None: no value), and whether it is kept."""

    share: float | None
    kept: bool


def card(
    *, title: str, status: str, tone: str, verdict: str, facts: Sequence[str], tiles: Sequence[Sequence[Tile]],
    columns: Sequence[str], caption: str,
) -> Image.Image:  # fmt: skip
    """Return the card; `tiles` holds a row per layer, "columns" the names of directions, and may both be empty."""
    image = Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIZE[0], 14), fill=TONES.get(tone, TONES["open"]))
    right = MAP[0] - 40 if tiles else SIZE[0] - MARGIN
    draw.text((MARGIN, 56), _fit(title, _font(24), right - MARGIN), font=_font(24), fill=SOFT)
    font, lines = _sized(verdict, right - MARGIN)
    y = 120
    for line in lines:
        draw.text((MARGIN, y), line, font=font, fill=INK)
        y += round(font.size * 1.32)
    bold = _font(30, bold=True)
    draw.text((MARGIN, y + 22), _fit(status, bold, right - MARGIN), font=bold, fill=TONES.get(tone, INK))
    for number, fact in enumerate(reversed(facts[:5]), 1):
        font = next((f for f in map(_font, (21, 19, 17)) if f.getlength(fact) <= right - MARGIN), _font(15))
        draw.text((MARGIN, SIZE[1] - 60 - 32 * number), _fit(fact, font, right - MARGIN), font=font, fill=SOFT)
    draw.text((MARGIN, SIZE[1] - 52), "lmsearch: search over scan directions", font=_font(18), fill=SOFT)
    if tiles:
        _map(draw, tiles, columns, caption)
    return image


def _map(draw: ImageDraw.ImageDraw, tiles: Sequence[Sequence[Tile]], columns: Sequence[str], caption: str) -> None:
    """Draw layers by directions."""
    left, top, right, bottom = MAP
    wide, tall = (right - left) / max(len(columns), 1), min((bottom - top) / len(tiles), 64)
    gap = 2 if min(wide, tall) > 10 else 0
    for row, mine in enumerate(tiles):
        for column, tile in enumerate(mine):
            box = (left + column * wide, top + row * tall, left + (column + 1) * wide - gap, top + (row + 1) * tall - gap)
            colour = EMPTY if tile.share is None else _mixed(tile.share)
            draw.rectangle(box, fill=colour, outline=FRAME if tile.kept else None, width=4 if min(wide, tall) > 24 else 2)
    end = top + len(tiles) * tall
    if len(columns) <= 16:
        for column, name in enumerate(columns):
            _upright(draw, (round(left + (column + 0.5) * wide), round(end) + 8), name)
    draw.text((left, top - 34), _fit(caption, _font(18), right - left), font=_font(18), fill=SOFT)


def _upright(draw: ImageDraw.ImageDraw, place: tuple[int, int], name: str) -> None:
    """Write a name from top to bottom, centred below a place."""
    font = _font(18)
    word = Image.new("L", (round(font.getlength(name)) + 2, 24), 0)
    ImageDraw.Draw(word).text((0, 0), name, font=font, fill=255)
    turned = word.rotate(-90, expand=True)
    draw.bitmap((place[0] - turned.width // 2, place[1]), turned, fill=SOFT)


def _mixed(share: float) -> tuple[int, int, int]:
    """Return the colour of a share."""
    share = min(1.0, max(0.0, share))
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(LOW, HIGH, strict=True))
    return red, green, blue


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return matplotlib's font, which knows more letters than Pillow's."""
    import matplotlib  # slow to import

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def _sized(text: str, width: int) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """Return the largest font in which a text has few lines, and these lines."""
    for size in range(LARGEST, SMALLEST - 1, -2):
        font = _font(size, bold=True)
        lines = _wrapped(text, font, width)
        if len(lines) <= LINES:
            break
    return font, [*lines[: LINES - 1], _fit(" ".join(lines[LINES - 1 :]), font, width)] if len(lines) > LINES else lines


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Return a text in lines of at most a width in pixels."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(_fit(word, font, width))
    return lines


def _fit(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return the text, or its beginning with an ellipsis, no wider than a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
