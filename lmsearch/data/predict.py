"""Images of a user's own for prediction, seen as the trained model's evaluation saw its data."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

import torch

from lmsearch.data.checks import choice
from lmsearch.data.info import DataInfo
from lmsearch.data.listing import accepted, find_images, say_unread
from lmsearch.data.reading import MODES, read_image
from lmsearch.data.transforms import eval_tensor
from lmsearch.errors import DataError
from lmsearch.paths import shown

log = logging.getLogger(__name__)
Paths = str | PathLike[str] | Iterable[str | PathLike[str]]


def find_files(paths: Paths) -> list[Path]:
    """Return the files that `paths` name, each once: files, the images under folders (sub-folders too), and patterns (a/*.png).

    Raises DataError for a path that does not exist, a folder without images and a pattern that nothing matches.
    """
    files: list[Path] = []
    for name in [paths] if isinstance(paths, (str, PathLike)) else paths:
        path = Path(name)
        if path.is_dir():
            files += _folder(path)
        elif path.exists():
            files.append(path)
        elif glob.has_magic(str(path)):
            files += _pattern(path)
        else:
            raise DataError(f"{shown(path)}: no such file or folder")
    return list(dict.fromkeys(files))


def read_tensor(path: Path, info: DataInfo) -> torch.Tensor:
    """Return one image file (C, H, W) as evaluation sees it; raise DataError if it cannot be read."""
    return eval_tensor(read_image(path, info.in_chans), info)


def check_readable(info: DataInfo) -> None:
    """Raise DataError where image files cannot give what a network takes."""
    if info.in_chans not in MODES:
        raise DataError(f"data {info.name!r} has {info.in_chans} channels; image files can give 1 (grey) or 3 (RGB)")


def load_images(paths: Paths, info: DataInfo, *, on_error: str = "raise") -> Iterator[tuple[Path, torch.Tensor]]:
    """Yield (path, image (C, H, W)) for files, for every image under folders and for patterns, prepared as `info` describes.

    A path that does not exist or a folder without images raises DataError at once; a broken image raises DataError when it is
    reached, or is left out with a logged warning (on_error "skip").
    """
    choice("on_error", on_error, ("raise", "skip"))
    check_readable(info)
    return _load(find_files(paths), info, on_error)


def _load(files: list[Path], info: DataInfo, on_error: str) -> Iterator[tuple[Path, torch.Tensor]]:
    for path in files:
        try:
            tensor = read_tensor(path, info)
        except DataError as error:
            if on_error == "raise":
                raise
            log.warning("%s; left out", error)
            continue
        yield path, tensor


def _folder(folder: Path) -> list[Path]:
    found = find_images(folder)
    say_unread(folder, found.left_out)
    if not found.images:
        raise DataError(f"{shown(folder)}: holds no images; accepted: {accepted()}")
    return found.images


def _pattern(pattern: Path) -> list[Path]:
    """Return the files that a pattern matches and the images under the folders that it matches."""
    matches = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]
    if not matches:
        raise DataError(f"{shown(pattern)}: no file or folder matches this pattern")
    return [file for match in matches for file in (find_images(match).images if match.is_dir() else [match])]
