"""How an image folder is laid out, and which of its images validate where there is no val/ folder.

Accepted: <root>/train/<class>/* with or without val/ and test/ beside it, by any name in SPLITS, or the class folders directly
under <root>.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmsearch.data.checks import number, opening
from lmsearch.data.listing import list_classes
from lmsearch.errors import DataError
from lmsearch.paths import shown
from lmsearch.reading import is_folder
from lmsearch.words import first_of

log = logging.getLogger(__name__)
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}  # names of the folders of each split, in any case
VAL_FRACTION, VAL_FRACTION_ALONE = 0.1, 0.2  # of the training images, with a test/ folder and without one
SPLIT_SEED = 0  # of the images that validate; the seed of a run has no part in it
Classes = dict[str, list[Path]]


@dataclass(frozen=True)
class Part:
    """The images of one split: its folder and the files of each class, in the order of the labels."""

    folder: Path
    classes: Classes

    @property
    def num_images(self) -> int:
        """Images of all classes."""
        return sum(map(len, self.classes.values()))


@dataclass(frozen=True)
class Folder:
    """The parts of an image folder. `val_fraction` and `val_digest` say which training images validate; null: val/ does."""

    root: Path
    train: Part
    val: Part
    test: Part
    val_fraction: float | None = None
    val_digest: str | None = None


@opening()
def read_folder(
    root: Path, *, val_fraction: float | None = None, val_digest: str | None = None, class_names: Sequence[str] | None = None
) -> Folder:
    """List the images under `root`; raise DataError with one line where something is missing or has changed.

    `val_fraction` (None: 0.1 beside test/, else 0.2) is the share of each class that validates where there is no val/.
    `val_digest` is what an earlier reading recorded: other images in the validation set are then refused.
    `class_names` are the classes and their order; None: the folders of train/, sorted.
    """
    if not is_folder(root):
        raise DataError(f"{root}: no such folder; root must hold train/<class>/ and val/<class>/, or class folders")
    present = split_folders(root)
    if "val" in present and val_fraction is not None:
        raise DataError(f"val_fraction is {val_fraction}, but {present['val']} is there and validates; leave out one of them")
    if present and "train" not in present:
        taken = first_of([f"{path.name}/" for path in present.values()], 3)
        raise DataError(
            f"{root / 'train'}: no such folder, but {taken} there is taken for a split; expected train/<class>/* beside it. "
            f"Folders called {', '.join(name for names in SPLITS.values() for name in names)} are no classes unless in train/"
        )
    flat = not present
    folder = present.get("train", root)
    train = Part(folder, list_classes(folder, known=class_names))
    names = list(train.classes)
    if flat:
        say_alike_inside(train)
    else:
        say_unread(root, train, read=list(present.values()))
    others = {split: Part(path, list_classes(path, known=names)) for split, path in present.items() if split != "train"}
    if "val" in others:
        return Folder(root, train, others["val"], others.get("test", others["val"]))
    if flat and len(names) < 2:
        raise DataError(f"{root}: holds one folder only, {names[0]!r}; expected class folders, or train/ holding them")
    if val_fraction is None:
        val_fraction = VAL_FRACTION if "test" in others else VAL_FRACTION_ALONE
    number("val_fraction", val_fraction, least=0.001, most=0.9)
    train, val = set_aside(train, val_fraction)
    digest = digest_of(val)
    if val_digest not in (None, digest):
        raise DataError(
            f"{root}: its images are no longer those of which some were set aside for validation (val_digest is {val_digest},"
            f" now {digest}): images that trained would validate; restore the folder, or train on it anew"
        )
    layout = "class folders directly under it" if flat else "no val/ folder"
    log.info(
        "%s: %s, so %d of %d training images (%g of each class, the same for every seed) validate%s; data.val_fraction sets it",
        root, layout, val.num_images, val.num_images + train.num_images, val_fraction, "" if "test" in others else " and test",
    )  # fmt: skip
    return Folder(root, train, val, others.get("test", val), val_fraction, digest)


def read_for_evaluation(
    root: Path, *, class_names: Sequence[str], val_fraction: float | None = None, val_digest: str | None = None
) -> Folder:
    """List the images under `root` that a trained network is measured on: test/ and val/, or either, else all that there are.

    `val_fraction` and `val_digest` are those of the training. Where these are the images that it read, only those that it set
    aside are measured, since it has seen all others.
    """
    if not is_folder(root):
        raise DataError(f"{root}: no such folder; root must hold test/, val/ or train/ with class folders, or class folders")
    present = split_folders(root)
    paths = [present[split] for split in ("val", "test") if split in present] or [present.get("train", root)]
    parts = [Part(path, list_classes(path, known=class_names)) for path in paths]
    if not present.keys() & {"val", "test"} and (aside := aside_before(parts[0], val_fraction, val_digest)):
        told = "%s: holds the images of the training, so the %d of %d that were set aside to validate are measured"
        log.info(told, root, aside.num_images, parts[0].num_images)
        return Folder(root, aside, aside, aside)
    log.info("%s: %d images of %s are measured", root, parts[-1].num_images, paths[-1])
    return Folder(root, parts[0], parts[0], parts[-1])


def split_of(name: str) -> str | None:
    """Return the split that a folder of this name is, in any case, None for any other folder."""
    return next((split for split, names in SPLITS.items() if name.lower() in names), None)


def folders_of_splits(folder: Path) -> list[tuple[str, Path]]:
    """Return the folders directly under a folder that are called as splits are, with their splits, in the order of SPLITS."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if split_of(entry.name) and entry.is_dir())
    return [(split, folder / name) for split in SPLITS for name in names if split_of(name) == split]


def split_folders(folder: Path, *, holding: str = "") -> dict[str, Path]:
    """Return the folders of the splits directly under a folder, those alone that have the sub-folder `holding`.

    Raises DataError where two of them are the same split, such as train/ and Training/.
    """
    found: dict[str, Path] = {}
    for split, path in folders_of_splits(folder):
        if not (path / holding).is_dir():
            continue
        if split in found:
            both = f"{found[split].name}/ and {path.name}/"
            raise DataError(f"{shown(folder)}: {both} are both taken for the {split} split; leave one of them there")
        found[split] = path
    return found


def say_alike_inside(part: Part) -> None:
    """Warn where the images of all classes lie in folders of the same names, so that these may be the classes of splits."""
    inner: set[frozenset[str]] = set()
    for name, paths in part.classes.items():
        if paths[0].parent == part.folder / name:
            return
        inner.add(frozenset(path.parent.name for path in paths))
    if len(inner) == 1 and len(part.classes) > 1 and len(held := sorted(*inner)) > 1:
        log.warning(
            "%s: %s are taken for classes, but images of all of them are in folders called %s: if those are the classes, call the"
            " outer folders train, val or test",
            shown(part.folder), first_of([f"{name}/" for name in part.classes], 3), first_of(held, 3),
        )  # fmt: skip


def say_unread(root: Path, train: Part, *, read: Iterable[Path]) -> None:
    """Warn of folders beside train/ that hold one of its classes, such as holdout/, and are not read."""
    with os.scandir(root) as entries:
        beside = sorted(Path(entry.path) for entry in entries if entry.is_dir())
    unread = [path for path in beside if path not in read and any((path / name).is_dir() for name in train.classes)]
    if unread:
        log.warning(
            "%s: classes of %s/ are in %s too, which %s not read; a folder that validates is called %s, one that tests %s",
            shown(root), train.folder.name, first_of([f"{path.name}/" for path in unread], 3),
            "is" if len(unread) == 1 else "are", " or ".join(SPLITS["val"]), " or ".join(SPLITS["test"]),
        )  # fmt: skip


def set_aside(part: Part, fraction: float) -> tuple[Part, Part]:
    """Split each class into (rest, set aside), both sorted and neither empty; which images go is a matter of their names."""
    rest, aside = {}, {}
    for name, paths in part.classes.items():
        if len(paths) < 2:
            raise DataError(
                f"{part.folder / name}: holds {len(paths)} image, and one must train and one validate; "
                "add images, or make a val/ folder"
            )
        count = min(max(round(len(paths) * fraction), 1), len(paths) - 1)
        chosen = set(sorted(paths, key=lambda path: _draw(part, path))[:count])
        rest[name] = [path for path in paths if path not in chosen]
        aside[name] = [path for path in paths if path in chosen]
    return Part(part.folder, rest), Part(part.folder, aside)


def aside_before(part: Part, fraction: float | None, digest: str | None) -> Part | None:
    """Return what is set aside of a part where that is what an earlier reading recorded, else None: it has other images."""
    if digest is None or min(map(len, part.classes.values()), default=0) < 2:
        return None
    _, aside = set_aside(part, number("val_fraction", fraction, least=0.001, most=0.9))
    return aside if digest_of(aside) == digest else None


def digest_of(part: Part) -> str:
    """Return what tells the images of a part from any others, by their names."""
    names = "\n".join(sorted(_name(part, path) for paths in part.classes.values() for path in paths))
    return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()[:16]


def _name(part: Part, path: Path) -> str:
    return path.relative_to(part.folder).as_posix()


def _draw(part: Part, path: Path) -> bytes:
    """Return a number drawn for a file, by its name and SPLIT_SEED."""
    return hashlib.sha256(f"{SPLIT_SEED}/{_name(part, path)}".encode(errors="surrogateescape")).digest()
