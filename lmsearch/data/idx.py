"""The idx files of MNIST and its kin: two magic zeros, a type, a number of axes, their sizes, then the bytes.

Shapes: images (N, H, W) or, in colour, (N, H, W, C) uint8; labels (N,) uint8.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lmsearch.errors import DataError, first_line
from lmsearch.paths import shown
from lmsearch.reading import is_folder

UNSIGNED_BYTES = 0x08  # the one type of values that is read
NAME = re.compile(r"(?P<set>.*?)(?P<part>train|t10k|test)[-_.](?P<kind>images|labels)[-_.]idx[134]-ubyte(?:\.gz)?")
PARTS = {"train": "train", "t10k": "test", "test": "test"}  # as files are named: the split
AXES = {"images": (3, 4), "labels": (1,)}
WANTED = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, each also with .gz"


def find_idx(root: Path) -> dict[tuple[str, str], Path]:
    """Return the four files under `root` by split ("train", "test") and kind ("images", "labels").

    Raises DataError where one is missing, where there are two, beside a packed copy of the same file, and where the names begin
    otherwise, such as emnist-letters- and emnist-digits-: those are files of several sets.
    """
    if not is_folder(root):
        raise DataError(f"{shown(root)}: no such folder; data.root must hold {WANTED}")
    found: dict[tuple[str, str], list[Path]] = {(split, kind): [] for split in ("train", "test") for kind in AXES}
    for path in sorted(root.iterdir()):
        if told := NAME.fullmatch(path.name):
            found[PARTS[told["part"]], told["kind"]].append(path)
    for (split, kind), paths in found.items():
        plain = [path for path in paths if path.suffix != ".gz"]
        paths[:] = plain + [path for path in paths if path.suffix == ".gz" and path.with_suffix("") not in plain]
        if len(paths) > 1:
            raise DataError(f"{shown(root)}: {kind} of the {split} set are in {_names(paths)}; expected one file of each")
    if missing := [f"{kind} of the {split} set" for (split, kind), paths in found.items() if not paths]:
        there = _names(path for paths in found.values() for path in paths) or "no idx file"
        raise DataError(f"{shown(root)}: {missing[0]} are missing, found {there}; expected {WANTED}")
    files = {which: paths[0] for which, paths in found.items()}
    if len({told["set"] for path in files.values() if (told := NAME.fullmatch(path.name))}) > 1:
        raise DataError(
            f"{shown(root)}: {_names(files.values())} are of several sets; expected four files whose names begin alike"
        )
    return files


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(shown(path.name) for path in paths)


def read_pair(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, H, W, C) uint8 and their labels (N,) uint8; raise DataError where the files do not fit each other."""
    pixels, classes = read_idx(images, axes=AXES["images"]), read_idx(labels, axes=AXES["labels"])
    if len(pixels) != len(classes):
        raise DataError(
            f"{shown(labels)}: {len(classes)} labels for the {len(pixels)} images of {images.name}; expected one each"
        )
    if not pixels.size:
        raise DataError(f"{shown(images)}: holds no image")
    pixels = pixels if pixels.ndim == 4 else pixels[..., None]
    if pixels.shape[3] not in (1, 3):
        raise DataError(f"{shown(images)}: images of {pixels.shape[3]} channels; expected 1 (grey) or 3 (RGB), as the last axis")
    return pixels, classes


def read_idx(path: Path, *, axes: tuple[int, ...]) -> np.ndarray:
    """Return the array of unsigned bytes in an idx file, packed by gzip or not.

    Raises DataError where it cannot be read, has another magic number or number of axes, or is longer or shorter than it says.
    """
    content = _unpacked(path)
    rank = content[3] if len(content) >= 4 else 0
    if content[:3] != bytes((0, 0, UNSIGNED_BYTES)) or rank not in axes:
        wanted = " or ".join(f"0x{UNSIGNED_BYTES << 8 | n:08x}" for n in axes)
        raise DataError(f"{shown(path)}: begins with 0x{content[:4].hex()}; expected {wanted} (idx of unsigned bytes)")
    begin = 4 + 4 * rank
    if len(content) < begin:
        raise DataError(f"{shown(path)}: cut off: {len(content)} bytes, fewer than the {begin} of its head")
    shape = tuple(np.frombuffer(content[4:begin], ">u4").tolist())
    told, held = math.prod(shape), len(content) - begin
    if held != told:
        sides = " x ".join(map(str, shape))
        raise DataError(f"{shown(path)}: {'cut off' if held < told else 'too long'}: {held} bytes of {sides} = {told}")
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)


def _unpacked(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{shown(path)}: cannot be read ({first_line(error)})") from error
