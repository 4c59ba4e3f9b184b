"""What the headers of some images tell: the size at which to train on them, and whether they are grey."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lmsearch.data.checks import opening
from lmsearch.data.reading import Header, read_header
from lmsearch.errors import DataError

MOST_HEADERS = 500  # images looked at, evenly spaced over all
MOST_PIXELS = 224  # short side of the images that a network is given, at most
LONGEST = 2  # times the short side, at most
FINE_GRID = 16  # a side is made a multiple of the smallest power of two that leaves no more tokens than this
FEWEST_TOKENS, MOST_TOKENS = 8, 20  # along the short side of an image that is taken as it is


@dataclass(frozen=True)
class Survey:
    """The size (height, width) and the channels to train with; `sizes` and `colour` say why in words."""

    img_size: tuple[int, int]
    in_chans: int
    sizes: str
    colour: str


@opening()
def survey(paths: Sequence[Path]) -> Survey:
    """Look at the headers of at most MOST_HEADERS of the images; raise DataError where none can be read."""
    step = max(1, len(paths) // MOST_HEADERS)
    headers = [header for path in paths[::step] if (header := look(path)) is not None]
    if not headers:
        raise DataError(f"{paths[0].parent}: none of the images looked at can be read; set data.img_size and data.in_chans")
    return choose(headers)


def look(path: Path) -> Header | None:
    """Return what a file's header says; None where it cannot be read (reading the image tells why)."""
    try:
        return read_header(path)
    except DataError:
        return None


def choose(headers: Sequence[Header]) -> Survey:
    """Choose size and channels for images with such headers.

    One size in common: that size, its short side shrunk to MOST_PIXELS where it is larger, and rounded where no patch divides
    it well. Mixed sizes: a square of the median short side, MOST_PIXELS at most.
    """
    sizes = {header.size for header in headers}
    grey = all(header.grey for header in headers)
    if len(sizes) == 1:
        (own,) = sizes
        size = fitted(own)
        how = "their own size" if size == own else f"they have {own[0]}x{own[1]}"
    else:
        short = median(min(header.size) for header in headers)
        side = rounded(min(short, MOST_PIXELS))
        size, how = (side, side), f"their short sides are {short:g} in the median"
    told = f"images at {size[0]}x{size[1]} pixels ({how})"
    return Survey(size, 1 if grey else 3, told, "all grey" if grey else "in colour")


def fitted(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size to train at for images that all have `size`."""
    factor = min(1.0, MOST_PIXELS / min(size))
    short, long = min(size) * factor, min(max(size), LONGEST * min(size)) * factor
    if divides_well(exact := (round(short), round(long))):
        return exact if size[0] <= size[1] else exact[::-1]
    unit = unit_of(short)
    sides = (rounded(short), max(unit, round(long / unit) * unit))
    return sides if size[0] <= size[1] else sides[::-1]


def divides_well(size: tuple[int, int]) -> bool:
    """Tell whether a patch divides both sides into a grid that is neither coarse nor fine."""
    short, common = min(size), math.gcd(*size)
    if short <= MOST_TOKENS:
        return True
    return any(common % p == 0 and FEWEST_TOKENS <= short // p <= MOST_TOKENS for p in range(1, short + 1))


def rounded(side: float) -> int:
    """Return the nearest multiple of `unit_of(side)`, at least one."""
    unit = unit_of(side)
    return max(unit, round(side / unit) * unit)


def unit_of(side: float) -> int:
    """Return the smallest power of two that divides a side into FINE_GRID tokens or fewer."""
    unit = 1
    while side / unit > FINE_GRID:
        unit *= 2
    return unit
