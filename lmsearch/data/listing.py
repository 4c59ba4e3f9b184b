"""Finding image files, and class folders that agree between training and evaluation."""

from __future__ import annotations

import os
from pathlib import Path

from lmsearch.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")


def list_images(folder: Path) -> list[Path]:
    """Return the image files under `folder`, in sub-folders too, sorted; hidden files and other kinds are left out."""
    found = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in files if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
    return sorted(found)


def list_classes(folder: Path) -> dict[str, list[Path]]:
    """Return {class name: image files} of the sub-folders of `folder`, sorted; raise DataError if any of it is missing."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected <root>/train/<class>/*.jpg and <root>/val/<class>/*.jpg")
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{folder}: holds no class folders; expected {folder.name}/<class>/*.jpg")
    classes = {name: list_images(folder / name) for name in names}
    if empty := [name for name, files in classes.items() if not files]:
        raise DataError(f"{folder / empty[0]}: holds no images; accepted: {', '.join(EXTENSIONS)}")
    return classes


def check_same_classes(train: Path, other: Path, train_names: list[str], other_names: list[str]) -> None:
    """Raise DataError where the class folders of `other` differ from those of `train`."""
    missing = sorted(set(train_names) - set(other_names))
    surplus = sorted(set(other_names) - set(train_names))
    if not missing and not surplus:
        return
    parts = ((missing, "missing"), (surplus, "unknown"))
    differences = ", ".join(f"{len(names)} {word} (such as {names[0]!r})" for names, word in parts if names)
    raise DataError(f"{other}: its class folders differ from those of {train}: {differences}")
