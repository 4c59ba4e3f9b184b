"""Images with mask files: images/train + annotations/train, train/images + train/masks, or images/ + masks/ without splits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmsearch.data.dense.folders import asked_for, check_paired, mask_folder
from lmsearch.data.dense.records import Annotated, packed
from lmsearch.data.layout import SPLITS, split_folders
from lmsearch.data.listing import find_images
from lmsearch.errors import DataError
from lmsearch.paths import shown

log = logging.getLogger(__name__)


def read_mask_folder(root: Path, *, only: Sequence[str] | None = None) -> dict[str, Annotated]:
    """Return the images of every split with the paths of their masks; {"train": ...} alone where there are no splits.

    `only` some splits may be asked for: where one of them is there, no others are read.
    Raises DataError where masks are missing, or where an image or mask stands for several.
    """
    if (masks := mask_folder(root)) is not None and (root / "images").is_dir():
        splits = asked_for(split_folders(root / "images"), only)
        if not splits:
            return {"train": _paired(root / "images", masks)}
        return {split: _paired(folder, _same_split(masks, split)) for split, folder in splits.items()}
    splits = asked_for(split_folders(root, holding="images"), only)
    return {split: _paired(folder / "images", mask_folder(folder) or folder / "masks") for split, folder in splits.items()}


def _same_split(masks: Path, split: str) -> Path:
    """Return the folder of a split's masks."""
    return split_folders(masks).get(split, masks / SPLITS[split][0])


def _paired(images: Path, masks: Path) -> Annotated:
    """Pair images with the masks of the same stem, sub-folders alike."""
    if not masks.is_dir():
        raise DataError(f"{masks}: no such folder; {images} needs masks of the same stems there")
    files = _by_stem(images)
    held = _by_stem(masks)
    if not files:
        raise DataError(f"{shown(images)}: holds no images")
    check_paired(shown(masks), [stem for stem in files if stem not in held], what="image(s) have no mask of the same stem")
    if surplus := len(held.keys() - files.keys()):
        log.warning("%s: %d mask(s) belong to no image and are left out", shown(masks), surplus)
    count = len(files)
    return Annotated(
        str(images),
        packed(list(files.values())),
        np.arange(1, count + 1),
        np.zeros((count, 2), dtype=np.int64),
        masks=packed([held[stem] for stem in files]),
    )


def _by_stem(folder: Path) -> dict[Path, Path]:
    """Return the image files of a folder by their path without ending, sorted."""
    found: dict[Path, Path] = {}
    for path in find_images(folder).images:
        stem = path.relative_to(folder).with_suffix("")
        if stem in found:
            raise DataError(f"{shown(path)}: {found[stem].name} has the same stem, and one of them only can have the mask")
        found[stem] = path
    return found
