"""Mask files: which pixel value or colour is which class, found out once, and a file as a class map.

Integer masks (8 or 16 bits, palettes as their numbers, grey saved as RGB) and masks with one colour per class are read.
Shapes: H W image, N mask files, C classes.
"""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from lmsearch.data.info import VOID
from lmsearch.data.reading import UNREADABLE, check_stored, readable_formats
from lmsearch.errors import DataError, short
from lmsearch.paths import shown
from lmsearch.reading import read_text
from lmsearch.words import first_of

log = logging.getLogger(__name__)
NAMES, COLOURS = "classes.txt", ("class_dict.csv", "classes.csv")
NEVER = -1  # the value of a class that a folder does not have, and the class of a value that has none
VOID_NAME = "void"  # of a colour that has no class
LOSSY = ("JPEG", "JPEG2000", "WEBP", "AVIF")  # formats of Pillow
LOSSY_INSIDE = ("jpeg", "tiff_jpeg", "webp")  # ways to compress a TIFF
MOST_CLASSES = VOID
MOST_TOLD = 8
LOG_EVERY_S = 10.0
SPREAD = {"L;2": 255 // 3, "L;4": 255 // 15}  # how far apart Pillow puts the grey levels of few bits
NUMBERED = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")  # modes of Pillow that hold one number per pixel
COLOURED = ("RGB", "RGBA", "LA")  # modes of several, which may hold grey
LISTED = f"list the classes in {NAMES} (a name per line, line 1 is value 0) or {COLOURS[0]} (name,r,g,b)"


@dataclass(frozen=True)
class Known:
    """The classes of training: names (C) and what the data called them (C), None for the ground of objects."""

    names: tuple[str, ...]
    categories: tuple[int | str | None, ...]


@dataclass(frozen=True)
class MaskClasses:
    """The classes of mask files: names (C) and values (C), numbers or 0xRRGGBB where `colour`; `void` values have no class."""

    names: tuple[str, ...]
    values: tuple[int, ...]
    void: tuple[int, ...] = ()
    colour: bool = False

    @property
    def categories(self) -> tuple[int | str, ...]:
        """The values as they are written down: numbers, or colours such as #ff0080."""
        return tuple(hex_of(value) if self.colour else value for value in self.values)

    def read(self, path: Path, opened: Image.Image | None = None) -> np.ndarray:
        """Return the class map (H, W) uint8 of a mask file, VOID where there is no class; raise DataError naming the file."""
        held = read_values(path, colour=self.colour, opened=opened)
        if few_values(held):
            return self._looked_up(path, held)
        known = np.array([*self.values, *self.void], dtype=np.int64)
        order = np.argsort(known, kind="stable")
        places = np.searchsorted(known, held, sorter=order).clip(max=len(known) - 1)
        found = order[places]
        if (wrong := known[found] != held).any():
            raise DataError(f"{shown(path)}: {self._unknown(np.unique(held[wrong]))}")
        classes = np.array([*range(len(self.values)), *[VOID] * len(self.void)], dtype=np.uint8)
        values: np.ndarray = classes[found]
        return values

    def _looked_up(self, path: Path, held: np.ndarray) -> np.ndarray:
        """Return the class map (H, W) uint8 of values of 8 or 16 bits by a table, which has -1 where a value has no class."""
        table = np.full(np.iinfo(held.dtype).max + 1, NEVER, dtype=np.int16)
        for value, place in [*((value, VOID) for value in self.void), *((v, k) for k, v in enumerate(self.values))]:
            if 0 <= value < len(table):
                table[value] = place
        found = table.take(held)
        if found.min(initial=0) == NEVER:
            raise DataError(f"{shown(path)}: {self._unknown(np.unique(held[found == NEVER]))}")
        return found.astype(np.uint8)

    def _unknown(self, values: np.ndarray) -> str:
        """Say which values have no class."""
        told = [hex_of(int(value)) if self.colour else str(value) for value in values]
        classes = zip(self.values, self.categories, self.names, strict=True)
        listed = first_of([f"{written} {name}" for value, written, name in classes if value != NEVER], MOST_TOLD)
        kind = "colour" if self.colour else "value"
        return f"the mask holds {len(told)} {kind}(s) without a class: {first_of(told, MOST_TOLD)}; the classes are {listed}"


def hex_of(value: int) -> str:
    """Return a colour 0xRRGGBB as text."""
    return f"#{value:06x}"


def open_mask(path: Path, *, colour: bool) -> Image.Image:
    """Return a mask file, decoded; raise DataError where it cannot be read, or holds numbers that Pillow cuts off.

    Grey levels that Pillow spreads over the full range (of 2 or 4 bits, and of PGM) are the numbers of the file again.
    """
    try:
        with Image.open(path, formats=readable_formats()) as image:
            check_stored(image)
            if (way := image.info.get("compression")) in LOSSY_INSIDE:
                raise ValueError(f"a TIFF compressed as {way}, which changes the values of a mask; save masks as PNG")
            args = image.tile[0].args if image.tile else None
            stored, *largest = args if isinstance(args, tuple) else (args,)
            image.load()
            scaled = not colour and image.format == "PPM" and image.mode != "F" and bool(largest)
            if not colour and image.mode in COLOURED and (";16" in str(stored) or (scaled and largest[0] > VOID)):
                raise ValueError("16 bits per channel, of which 8 would be read; save numbers as 16-bit grey")
            if scaled:
                values = np.asarray(image)
                most = 65535 if image.mode == "I" else 255
                return Image.fromarray(np.rint(values * (largest[0] / most)).astype(values.dtype))
            step = SPREAD.get(str(stored), 1)
            return image if step == 1 else image.point([level // step for level in range(256)])
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    """Return one line that says what is wrong with a file."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{shown(path)}: not a readable mask ({reason})")


def read_values(path: Path, *, colour: bool, opened: Image.Image | None = None) -> np.ndarray:
    """Return the numbers of a mask's pixels (H, W) as they are stored, or its colours as 0xRRGGBB int64.

    `opened` is what open_mask has given already. Raises DataError for any other image.
    """
    image = open_mask(path, colour=colour) if opened is None else opened
    if colour:
        red, green, blue = np.asarray(image.convert("RGB"), dtype=np.int64).transpose(2, 0, 1)
        codes: np.ndarray = red << 16 | green << 8 | blue
        return codes
    if image.mode in NUMBERED:
        values = np.asarray(image)
        return values.astype(np.uint8) if values.dtype == bool else values
    if image.mode in COLOURED:
        channels = np.asarray(image.convert("RGB"))
        if (channels == channels[..., :1]).all():
            levels: np.ndarray = channels[..., 0]
            return levels
        raise DataError(f"{shown(path)}: the mask is in colour, its classes are numbers; {LISTED}")
    raise DataError(f"{shown(path)}: a mask of mode {image.mode} has no number per pixel; save it as 8-bit grey or palette PNG")


def is_coloured(path: Path) -> bool:
    """Tell whether a mask holds colours, rather than numbers or grey levels."""
    if mode_of(path) not in ("RGB", "RGBA"):
        return False
    channels = np.asarray(open_mask(path, colour=True).convert("RGB"))
    return bool((channels != channels[..., :1]).any())


def mode_of(path: Path) -> str:
    """Return Pillow's name of how a mask is stored, by its header; raise DataError where that cannot be read."""
    try:
        with Image.open(path, formats=readable_formats()) as image:
            return image.mode
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def few_values(held: np.ndarray) -> bool:
    """Tell whether pixels are numbers of 8 or 16 bits, of which a table may have one entry each."""
    return held.dtype.kind == "u" and held.dtype.itemsize <= 2


def values_in(held: np.ndarray) -> list[int]:
    """Return the values that pixels hold, in ascending order."""
    found: list[int] = (np.flatnonzero(np.bincount(held.ravel())) if few_values(held) else np.unique(held)).tolist()
    return found


def looked_at(root: Path, masks: Sequence[Path], what: str) -> Iterator[Path]:
    """Yield masks, and log now and then of how many the loop is done."""
    told = time.monotonic()
    for done, path in enumerate(masks):
        if (now := time.monotonic()) - told >= LOG_EVERY_S:
            log.info("%s: %s, %d/%d masks", root, what, done, len(masks))
            told = now
        yield path


def classes_of(
    root: Path, masks: Sequence[Path], *, void: tuple[int, ...], reduced: bool, known: Known | None = None
) -> MaskClasses:
    """Return the classes of the masks: those that a file lists, else the values that training masks hold, or `known` ones.

    `void` are numbers without class; `reduced`: 0 is one of them, and line 1 names value 1. Known classes go by the names that a
    file lists, else by their values. Raises DataError where neither tells them.
    """
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in LOSSY}
    if lossy := [path for path in masks if path.suffix.lower() in endings]:
        raise DataError(f"{shown(lossy[0])}: JPEG, JPEG 2000, WebP and AVIF change the values of a mask; save masks as PNG")
    own = _listed(root, void, reduced=reduced)
    if known is None:
        return _found(root, masks, void) if own is None else own
    if own is not None:
        return _by_name(root, own, known.names)
    colours = [int(value[1:], 16) for value in known.categories if isinstance(value, str)]
    numbers = [value for value in known.categories if isinstance(value, int)]
    if len(values := tuple(colours or numbers)) < len(known.names):
        raise DataError(f"{root}: which value of a mask is which class of training cannot be told; {LISTED}")
    return MaskClasses(known.names, values, () if colours else void, bool(colours))


def _listed(root: Path, void: tuple[int, ...], *, reduced: bool) -> MaskClasses | None:
    """Return the classes that a file in the folder lists, None where there is no such file."""
    if listing := next((root / name for name in COLOURS if (root / name).is_file()), None):
        if reduced:
            raise DataError(
                f"reduce_zero_label is true, but {listing} lists colours; leave it out and name a colour {VOID_NAME!r}"
            )
        return _listed_colours(listing)
    return _listed_names(root / NAMES, void, first=int(reduced)) if (root / NAMES).is_file() else None


def _by_name(root: Path, own: MaskClasses, names: tuple[str, ...]) -> MaskClasses:
    """Return known classes with the values that a folder lists for their names; raise DataError for a name beyond them."""
    if surplus := [name for name in own.names if name not in names]:
        told = f"{len(surplus)} classes are unknown to training: {first_of(surplus, 5)}"
        raise DataError(f"{root}: {told}; its classes are {first_of(names, MOST_TOLD)}")
    values = dict(zip(own.names, own.values, strict=True))
    return replace(own, names=names, values=tuple(values.get(name, NEVER) for name in names))


def void_numbers(ignore_index: int, *, reduce_zero_label: bool) -> tuple[int, ...]:
    """Return the numbers that have no class."""
    return tuple(dict.fromkeys([*([ignore_index] if ignore_index >= 0 else []), *([0] if reduce_zero_label else [])]))


def _listed_names(path: Path, void: tuple[int, ...], *, first: int) -> MaskClasses:
    """Read a file with a name per line."""
    lines = [line.strip() for line in read_text(path, where=str(path), error=DataError).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines or not all(lines):
        raise DataError(f"{path}: {'an empty line' if lines else 'no lines'}; expected a class name in every line")
    held = [(name, value) for value, name in enumerate(lines, start=first) if value not in void]
    return _checked(path, MaskClasses(tuple(name for name, _ in held), tuple(value for _, value in held), void))


def _listed_colours(path: Path) -> MaskClasses:
    """Read a table of names and colours."""
    rows = [row for row in csv.reader(io.StringIO(read_text(path, where=str(path), error=DataError))) if row]
    held: list[tuple[str, int]] = []
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        levels = [int(cell) if cell.isascii() and cell.isdigit() else -1 for cell in cells[1:]]
        if number == 1 and -1 in levels:
            continue  # the names of the columns
        if len(levels) != 3 or not all(0 <= level <= 255 for level in levels):
            raise DataError(f"{path}: line {number} is {short(','.join(row))}; expected name,r,g,b with 0 to 255")
        held.append((cells[0], levels[0] << 16 | levels[1] << 8 | levels[2]))
    void = tuple(colour for name, colour in held if name.lower() == VOID_NAME)
    named = [(name, colour) for name, colour in held if colour not in void]
    return _checked(path, MaskClasses(tuple(n for n, _ in named), tuple(c for _, c in named), void, colour=True))


def _found(root: Path, masks: Sequence[Path], void: tuple[int, ...]) -> MaskClasses:
    """Look through the training masks for the values that they hold."""
    colour = any(is_coloured(path) for path in looked_at(root, masks, "looking for colours"))
    held: set[int] = set()
    for path in looked_at(root, masks, "looking for the values that are classes"):
        held.update(values_in(read_values(path, colour=colour)))
        if len(held) > MOST_CLASSES + len(void):
            raise DataError(f"{shown(path)}: the masks up to this one hold {len(held)} values, which are no classes; {LISTED}")
    values = tuple(sorted(held if colour else held - set(void)))
    if len(values) < 2:
        beside = f", beside void ({' and '.join(map(str, void))})" if void else ""
        hint = "data.ignore_index=-1 makes 255 a class" if VOID in held else LISTED
        raise DataError(f"{root}: the masks hold no two classes: {', '.join(map(str, values)) or 'nothing'}{beside}; {hint}")
    names = tuple(hex_of(value) if colour else str(value) for value in values)
    log.info("%s: no %s, so the %d values that the training masks hold are the classes", root, NAMES, len(values))
    return MaskClasses(names, values, () if colour else void, colour)


def _checked(path: Path, classes: MaskClasses) -> MaskClasses:
    """Return the classes; raise DataError for a name or value given twice, for too many or too few."""
    for kind, held in (("class", classes.names), ("colour", classes.categories)):
        if twice := next((entry for entry in held if held.count(entry) > 1), None):
            raise DataError(f"{path}: the {kind} {short(twice)} is given twice")
    if not 2 <= len(classes.names) <= MOST_CLASSES:
        raise DataError(f"{path}: {len(classes.names)} class(es); expected 2 to {MOST_CLASSES}")
    return classes
