"""How images with masks or objects are laid out on the disk: which layout a folder has, and where its splits are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lmsearch.data.layout import SPLITS, folders_of_splits
from lmsearch.errors import DataError, did_you_mean
from lmsearch.reading import is_folder
from lmsearch.words import first_of

MASKS = ("annotations", "masks", "labels")  # names of the folder of masks
ROBOFLOW = "_annotations.coco.json"
YAMLS = ("data.yaml", "data.yml", "dataset.yaml")
MOST_TOLD = 8
ACCEPTED = (
    "images/train + annotations/train with masks of the same stems (masks)",
    f"annotations/*.json beside the images, or {ROBOFLOW} in each split (coco)",
    "data.yaml with train/images + train/labels (yolo)",
)


def asked_for(splits: dict[str, Path], only: Sequence[str] | None) -> dict[str, Path]:
    """Return the splits of `only` (None: all) that are there, else all."""
    return {split: path for split, path in splits.items() if split in (only or ())} or splits


def has_masks(root: Path) -> bool:
    """Tell whether there are images with masks: images/ beside a folder of masks, at the top or in each split."""
    tops = [root, *(place for split, place in folders_of_splits(root) if split == "train")]
    return any((top / "images").is_dir() and mask_folder(top) is not None for top in tops)


def mask_folder(top: Path) -> Path | None:
    """Return the folder of masks beside images/, where there is one that holds more than texts."""
    return next((top / name for name in MASKS if _holds_images(top / name)), None)


def has_coco(root: Path) -> bool:
    """Tell whether there is a COCO file."""
    return any(coco_files(root))


def coco_files(root: Path) -> list[Path]:
    """Return the COCO files: of annotations/, of each split, or at the top."""
    inner = [place for _, place in folders_of_splits(root)]
    places = [root / "annotations", root, *inner]
    found = [path for place in places for path in sorted(place.glob("*.json")) if not path.name.startswith(".")]
    return [path for path in found if path.parent not in inner or path.name == ROBOFLOW]


def has_yolo(root: Path) -> bool:
    """Tell whether there is a YOLO description."""
    return yolo_file(root) is not None


def yolo_file(root: Path) -> Path | None:
    """Return the description of YOLO folders, where there is one."""
    return next((root / name for name in YAMLS if (root / name).is_file()), None)


FORMATS: dict[str, Callable[[Path], bool]] = {"masks": has_masks, "coco": has_coco, "yolo": has_yolo}


def recognise(root: Path, format: str | None = None) -> str:
    """Return the layout of a folder, one of FORMATS; raise DataError that shows what was found and what is accepted.

    `format` forces one; it is then checked.
    """
    if not is_folder(root):
        raise DataError(
            f"{root}: no such folder; accepted: {'; '.join(ACCEPTED)}; lmsearch shapes out=shapes writes one to try, data=shapes"
        )
    if format is not None and format not in FORMATS:
        raise DataError(f"format is {format!r}, which is not known{did_you_mean(format, FORMATS)}")
    fitting = [name for name, fits in FORMATS.items() if fits(root)]
    if format in fitting:
        return str(format)
    if len(fitting) == 1 and format is None:
        return fitting[0]
    if format is None and fitting:
        raise DataError(f"{root}: looks like {' and '.join(fitting)}; data.format={'|'.join(fitting)} says which to read")
    asked = "" if format is None else f"is not laid out as data.format={format}: "
    raise DataError(f"{root}: {asked}found {contents(root)}; accepted: {'; '.join(ACCEPTED)}")


def contents(folder: Path) -> str:
    """Return what a folder holds in a few words: sub-folders two deep, and files."""
    with os.scandir(folder) as entries:
        held = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: (not e.is_dir(), e.name))
    told = [f"{entry.name}/{_inside(Path(entry.path))}" if entry.is_dir() else entry.name for entry in held]
    return first_of(told, MOST_TOLD) or "nothing"


def split_named_in(name: str) -> str | None:
    """Return the split that a file name tells, such as train of instances_train2017."""
    words = "".join(letter if letter.isalpha() else " " for letter in name.lower()).split()
    return next((split for split, names in SPLITS.items() if any(known in words for known in names)), None)


def check_paired(where: str, lacking: Iterable[Path], *, what: str) -> None:
    """Raise DataError with the count and the first names where something is missing."""
    if missing := [str(path) for path in lacking]:
        raise DataError(f"{where}: {len(missing)} {what}: {first_of(missing, 3)}")


def _holds_images(folder: Path) -> bool:
    """Tell whether a folder holds files that are neither texts nor JSON, two deep."""
    if not folder.is_dir():
        return False
    files = [path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.suffix and path.is_file()]
    return any(path.suffix.lower() not in (".txt", ".json", ".xml", ".cache") for path in files)


def _inside(folder: Path) -> str:
    """Return the first sub-folders of a folder, or how many files it holds."""
    with os.scandir(folder) as entries:
        held = [(entry.name, entry.is_dir()) for entry in entries]
    inner = sorted(name for name, is_dir in held if is_dir)
    return f"{{{first_of(inner, 3)}}}" if inner else f" ({len(held)} files)"
