"""From an image file to 8-bit pixels as a viewer shows them: upright, over their full range, on white where transparent.

Colour profiles and gamma tags are not applied, as in other trainers; CMYK turns into RGB by the plain formula. Of animations and
files with several pages the first frame is read. What has no agreed appearance is refused, naming the mode.
"""

from __future__ import annotations

import logging
import re
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from lmsearch.errors import DataError
from lmsearch.paths import shown

log = logging.getLogger(__name__)
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
MODES = {1: "L", 3: "RGB"}
GREY = ("1", "L", "LA", "La", "I", "F")  # modes of one colour channel
NOT_PIXELS = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")  # recognised by Pillow, but decoded by other programs or not at all
TURNS = {  # EXIF orientation -> what sets the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SAMPLES, BITS, PHOTOMETRIC, SAMPLE_FORMAT, DESCRIPTION = 277, 258, 262, 339, 270  # tags of TIFF
ROWS_AS_PAGES = re.compile(r'\{"shape": \[(\d+), (\d+), (\d+)\]')  # how tifffile describes images of many bands, and stacks
OFFSETS = (273, 324)  # of strips or tiles in the file
GEOREFERENCED = (33550, 34264, 34735)  # tags of which a GeoTIFF has one at least
SLIVER = 4  # times as many rows, and as many columns, as bands
FEW_LEVELS = 8  # between opaque and transparent, that an overlay has
FEW_BITS = 4096  # values that cameras and scanners of 12 bits have, stored in files of 16
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def readable_formats() -> list[str]:
    """Return the formats whose pixels the installed Pillow decodes, those of registered plugins too."""
    Image.init()
    return [name for name in Image.ID if name not in NOT_PIXELS]


def readable_endings() -> frozenset[str]:
    """Return the file name endings, such as ".jpg", of the formats that can be read."""
    formats = set(readable_formats())
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in formats)


def read_image(path: str | PathLike[str], in_chans: int) -> Image.Image:
    """Return the image as grey (in_chans 1) or RGB (3); raise DataError naming the path if it cannot be read."""
    try:
        with Image.open(path, formats=readable_formats()) as image:
            check_stored(image)
            _check_samples(image)
            stored = image.tile[0].args if image.tile else None  # how pixels lie in the file; gone after loading
            image.load()
            pixels = _on_white(_eight_bits(image, stored[0] if isinstance(stored, tuple) else stored, Path(path).parent))
            turn = TURNS.get(_orientation(image))
            pixels = (pixels if turn is None else pixels.transpose(turn)).convert(MODES[in_chans])
            if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: a photograph with its previews
                _say_first_frame(str(image.format))
            return pixels
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


@dataclass(frozen=True)
class Header:
    """Height and width of an upright image, and whether it is stored as grey."""

    size: tuple[int, int]
    grey: bool


def read_header(path: str | PathLike[str]) -> Header:
    """Return what is known of an image, mostly without decoding it; raise DataError if that cannot be told."""
    try:
        with Image.open(path, formats=readable_formats()) as image:
            width, height = image.size
            turned = image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8)  # Pillow turns TIFFs itself
            grey = image.mode in GREY or image.mode.startswith("I;16")
            return Header((width, height) if turned else (height, width), grey)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def image_size(path: str | PathLike[str]) -> tuple[int, int]:
    """Return (height, width) of the upright image; raise DataError if that cannot be told."""
    return read_header(path).size


def check_stored(image: Image.Image) -> None:
    """Raise ValueError for a TIFF of which tiles are not stored: Pillow would take the beginning of the file for their pixels."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        offsets = [image.tag_v2.get(tag) for tag in OFFSETS]
        if any(isinstance(places, tuple) and 0 in places for places in offsets):
            raise ValueError("a sparse TIFF, of which some parts are not stored; write it without SPARSE_OK")


def _check_samples(image: Image.Image) -> None:
    """Raise ValueError for a TIFF whose samples are signed, or more than Pillow would hand over, or pages of a row each."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    samples, bands = image.tag_v2.get(SAMPLES, 1), image.getbands()
    if samples > len(bands):
        raise ValueError(f"{samples} samples per pixel, of which {len(bands)} would be read as {image.mode}")
    if 2 in image.tag_v2.get(SAMPLE_FORMAT, ()):
        raise ValueError(f"mode {image.mode} with signed samples: which value is black is not said")
    described = ROWS_AS_PAGES.match(str(image.tag_v2.get(DESCRIPTION, "")))
    if described:
        rows, columns, depth = map(int, described.groups())
        slices = min(rows, columns) < SLIVER * depth  # of a stack: rows of an image are many beside its bands
        if (columns, depth) == (image.height, image.width) and rows > 1 and not slices:
            raise ValueError(f"{rows}x{columns} pixels of {depth} bands, each row a page of its own; save it as grey or RGB")


def _eight_bits(image: Image.Image, stored: str | None, folder: Path) -> Image.Image:
    """Return the image as L, LA, RGB or RGBA; `stored` is Pillow's name of how pixels lie in the file, which is in `folder`."""
    mode = image.mode
    if mode.startswith("I;16") and image.format != "FITS":
        values, largest = np.asarray(image, dtype=np.uint16), _largest(image)
        if largest == 65535 and 255 < values.max() < FEW_BITS:
            _say_few_bits(folder)
        return _scaled(values, largest, image, image.info.get("transparency"))
    if mode == "I" and image.format == "PPM":
        return _scaled(np.asarray(image), 65535, image)
    if mode == "F":
        return _scaled(_unit_range(np.asarray(image)), 1, image)
    if mode in ("1", "L"):
        return _with_transparency(image, stored)
    if mode in ("La", "RGBa"):
        return image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    if mode == "RGB" and "transparency" in image.info and str(stored).startswith("RGB;16"):
        raise ValueError("mode RGB of 16 bits with a transparent colour")
    if mode in ("P", "PA", "RGB"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if mode in ("RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
        return image.convert("RGB")
    if mode in ("LA", "RGBA"):
        _check_alpha(image)
        return image
    raise ValueError(f"mode {mode} of {image.format}: which value is white is not said; save it with 8 or 16 bits per channel")


def _check_alpha(image: Image.Image) -> None:
    """Raise ValueError for a GeoTIFF of which more than half is half transparent, in many levels.

    GDAL tags any fourth band of bytes as alpha; an overlay that lets its ground through has few levels.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile) and any(tag in image.tag_v2 for tag in GEOREFERENCED):
        counts = image.getchannel("A").histogram()
        between = counts[1:-1]
        if sum(between) > sum(counts) / 2 and sum(map(bool, between)) > FEW_LEVELS:
            told = "its last band is tagged as alpha, but looks like another one, such as near-infrared"
            raise ValueError(f"mode {image.mode} of a georeferenced TIFF: {told}; save it without that band")


def _scaled(values: np.ndarray, largest: float, image: Image.Image, transparent: int | None = None) -> Image.Image:
    """Return grey levels (H, W), of which `largest` is white (or black, where a TIFF says so), as L, or as LA."""
    levels = (values * (255 / largest)).round().clip(0, 255).astype(np.uint8)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == 0:
        levels = 255 - levels
    if transparent is None:
        return Image.fromarray(levels)
    alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
    return Image.merge("LA", (Image.fromarray(levels), Image.fromarray(alpha)))


def _largest(image: Image.Image) -> int:
    """Return the largest value of a pixel of mode I;16."""
    bits = image.tag_v2.get(BITS, (16,))[0] if isinstance(image, TiffImagePlugin.TiffImageFile) else 16
    return int(2**bits - 1)


def _unit_range(values: np.ndarray) -> np.ndarray:
    """Return floating-point grey levels as they are, if all lie in [0, 1]."""
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 1):  # also for NaN
        raise ValueError(f"mode F with values from {low:g} to {high:g}; floating-point pixels must lie in 0 (black) to 1 (white)")
    return values


def _with_transparency(image: Image.Image, stored: str | None) -> Image.Image:
    """Return a grey image as L, or as LA where one of its levels is transparent."""
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return image.convert("L")
    if stored in ("L;2", "L;4"):  # Pillow spreads the pixels to 0..255, but not this level
        transparent = transparent * 255 // (2 ** int(stored[2:]) - 1)
    grey = image.convert("L")
    return Image.merge("LA", (grey, grey.point([0 if level == transparent else 255 for level in range(256)])))


def _on_white(image: Image.Image) -> Image.Image:
    """Return L for LA and RGB for RGBA, seen on a white ground; other modes as they are."""
    if image.mode not in ("LA", "RGBA"):
        return image
    opaque = image.mode.removesuffix("A")
    ground = Image.new(opaque, image.size, "white")
    ground.paste(image.convert(opaque), mask=image.getchannel("A"))
    return ground


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) where there is none or the block is damaged: then viewers show what is stored."""
    try:
        orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except UNREADABLE:
        return 1
    return orientation


def _unreadable(path: str | PathLike[str], error: Exception) -> DataError:
    """Return one line that says what is wrong with a file."""
    reason = _unidentified(path) if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
    return DataError(f"{shown(path)}: not a readable image ({reason or type(error).__name__})")


def _unidentified(path: str | PathLike[str]) -> str:
    """Return why Pillow does not open a file: for a TIFF what it holds, which Pillow keeps to itself."""
    with open(path, "rb") as file:
        header = file.read(16)
        if header[:4] not in TIFF_MAGIC:
            return "of no format that is read here" if header else "the file is empty"
        try:
            tags = TiffImagePlugin.ImageFileDirectory_v2(header if b"+" in header[:4] else header[:8])  # "+": BigTIFF
            file.seek(tags.next)
            tags.load(file)
        except UNREADABLE:
            return "a damaged TIFF"
    bits = ", ".join(map(str, tags.get(BITS, (1,))))
    return f"a TIFF of {tags.get(SAMPLES, 1)} samples per pixel with {bits} bits, which is not supported"


@lru_cache(maxsize=None)
def _say_few_bits(folder: Path) -> None:
    """Say once per process and folder that an image of 16 bits is nearly black."""
    told = "if they have 10 or 12 bits, store them times 64 or 16, or few grey levels are left"
    log.warning("%s: images of 16 bits with no value above %d are read as nearly black; %s", shown(folder), FEW_BITS - 1, told)


@lru_cache(maxsize=None)
def _say_first_frame(kind: str) -> None:
    """Say once per process and format that only first frames are read."""
    log.info("of %s files with several frames or pages, the first is read", kind)
