"""Images of a user's own for prediction, seen as the trained model's evaluation saw its data."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

import torch

from lmsearch.data.checks import choice
from lmsearch.data.info import DataInfo
from lmsearch.data.listing import EXTENSIONS, list_images
from lmsearch.data.transforms import MODES, eval_tensor, read_image
from lmsearch.errors import DataError

log = logging.getLogger(__name__)


def load_images(
    paths: str | PathLike | Iterable[str | PathLike], info: DataInfo, *, on_error: str = "raise"
) -> Iterator[tuple[Path, torch.Tensor]]:
    """Yield (path, image (C, H, W)) for files and for every image under folders, prepared as `info` describes.

    A path that does not exist or a folder without images raises DataError at once; a broken image raises DataError when it is
    reached, or is left out with a logged warning (on_error "skip").
    """
    choice("on_error", on_error, ("raise", "skip"))
    if info.in_chans not in MODES:
        raise DataError(f"data {info.name!r} has {info.in_chans} channels; image files can give 1 (grey) or 3 (RGB)")
    files: list[Path] = []
    for path in [paths] if isinstance(paths, (str, PathLike)) else paths:
        path = Path(path)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        found = list_images(path) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path}: holds no images; accepted: {', '.join(EXTENSIONS)}")
        files += found
    return _load(files, info, on_error)


def _load(files: list[Path], info: DataInfo, on_error: str) -> Iterator[tuple[Path, torch.Tensor]]:
    for path in files:
        try:
            image = read_image(path, info.in_chans)
        except DataError as error:
            if on_error == "raise":
                raise
            log.warning("%s; left out", error)
            continue
        yield path, eval_tensor(image, info)
