"""Writes tiny idx files for tests: random images whose brightest quadrant tells the class."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np

from lmsearch.data import Source, build_source


def idx_bytes(array: np.ndarray, *, kind: int = 0x08) -> bytes:
    """Return an array of bytes as the content of an idx file."""
    head = bytes((0, 0, kind, array.ndim)) + np.array(array.shape, dtype=">u4").tobytes()
    return head + array.astype(np.uint8).tobytes()


def write_idx(
    folder: Path, *, train: int = 80, test: int = 20, side: int = 4, chans: int = 0, packed: bool = True, form: str = "-"
) -> Path:
    """Write the four files of images (N, side, side), or with `chans` as a last axis, of four classes; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, count in (("train", train), ("t10k", test)):
        labels = np.arange(count) % 4
        images = rng.integers(0, 60, size=(count, side, side, max(chans, 1)))
        half = side // 2
        for image, label in zip(images, labels, strict=True):
            row, column = half * (label // 2), half * (label % 2)
            image[row : row + half, column : column + half] += 150
        pictures = images if chans else images[..., 0]
        for kind, array in (("images", pictures), ("labels", labels)):
            content = idx_bytes(array)
            path = folder / f"{name}-{kind}{form}idx{array.ndim}-ubyte"
            if packed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
    return folder


def idx_source() -> Source:
    """Return such images, read from files that are gone again."""
    with tempfile.TemporaryDirectory() as folder:
        return build_source("idx", root=write_idx(Path(folder)))
