"""A folder of images with masks or objects, whatever its layout: its splits, its classes, and which images validate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lmsearch.data.checks import number, opening
from lmsearch.data.dense.coco import read_coco_splits
from lmsearch.data.dense.folders import recognise
from lmsearch.data.dense.looked import check_labelled, look_through, say_shared, say_unseen_classes, shown_classes
from lmsearch.data.dense.maskfolder import read_mask_folder
from lmsearch.data.dense.masks import Known, MaskClasses, classes_of, void_numbers
from lmsearch.data.dense.records import Annotated, Things, set_aside
from lmsearch.data.dense.yolo import read_yolo_splits
from lmsearch.data.layout import VAL_FRACTION, VAL_FRACTION_ALONE
from lmsearch.errors import DataError
from lmsearch.words import first_of

log = logging.getLogger(__name__)
Categories = tuple[int | str | None, ...]
MEASURED = ("val", "test")  # splits on which networks are measured
GROUND = "background"  # the class of pixels where no object is


@dataclass(frozen=True)
class DenseFolder:
    """The splits of a folder. `class_names` are of objects, or of mask values; `categories` are their ids in the data.

    `masks` says which value of a mask is which class; None: there are objects. `val_fraction` and `val_digest` say which
    training images validate; null: a split of their own does.
    """

    root: Path
    format: str
    train: Annotated
    val: Annotated
    test: Annotated
    class_names: tuple[str, ...]
    categories: Categories
    masks: MaskClasses | None = None
    val_fraction: float | None = None
    val_digest: str | None = None

    @property
    def num_things(self) -> int:
        """The number of objects of all splits."""
        return sum(len(things) for things in self._things())

    @property
    def num_boxes(self) -> int:
        """The number of objects that have a box and no outline."""
        return sum(len(things) - things.num_outlines for things in self._things())

    @property
    def has_outlines(self) -> bool:
        """Whether there are objects, and every one of every split has an outline."""
        return self.masks is None and self.num_boxes == 0

    def _things(self) -> list[Things]:
        parts = [self.train, self.val, *([] if self.test is self.val else [self.test])]
        return [part.things for part in parts if part.things is not None]


@dataclass(frozen=True)
class Reading:
    """What a reader of one layout found: the images of every split there is, and their classes."""

    splits: dict[str, Annotated]
    class_names: tuple[str, ...]
    categories: Categories
    masks: MaskClasses | None = None


@dataclass(frozen=True)
class Wanted:
    """How to read: what is void in masks (ignore_index -1: nothing), what happens to broken objects, and known classes.

    `splits` are those that count where one of them is there; None: all. Readers may leave others out. `per_pixel`: objects
    become classes of pixels.
    """

    ignore_index: int = 255
    reduce_zero_label: bool = False
    on_error: str = "raise"
    class_names: tuple[str, ...] | None = None
    categories: Categories | None = None
    splits: tuple[str, ...] | None = None
    per_pixel: bool = False


def read_masks(root: Path, wanted: Wanted) -> Reading:
    """Read images with mask files."""
    names, categories = wanted.class_names, wanted.categories
    known = None if names is None or categories is None else Known(names, categories)
    splits = read_mask_folder(root, only=None if known is None else wanted.splits)
    first = splits.get("train") or next(iter(splits.values()))
    masks = [first.mask_path(index) for index in range(len(first))]
    void = void_numbers(wanted.ignore_index, reduce_zero_label=wanted.reduce_zero_label)
    classes = classes_of(root, masks, void=void, reduced=wanted.reduce_zero_label, known=known)
    return Reading(splits, classes.names, classes.categories, classes)


def known_names(wanted: Wanted) -> tuple[str, ...] | None:
    """Return the classes of objects that are known from training, if they are: those of pixels, without the ground.

    Of masks, whose classes are all in the data, the ground is a first class of that name.
    """
    if wanted.class_names is None or wanted.categories is None:
        return wanted.class_names
    if wanted.per_pixel and wanted.class_names[:1] == (GROUND,):
        return wanted.class_names[1:]
    return tuple(name for name, id in zip(wanted.class_names, wanted.categories, strict=True) if id is not None)


def read_coco(root: Path, wanted: Wanted) -> Reading:
    """Read a COCO folder."""
    splits, listed = read_coco_splits(root, on_error=wanted.on_error, names=known_names(wanted), only=wanted.splits)
    return Reading(splits, tuple(category.name for category in listed), tuple(category.id for category in listed))


def read_yolo(root: Path, wanted: Wanted) -> Reading:
    """Read a YOLO folder."""
    splits, names = read_yolo_splits(root, on_error=wanted.on_error, names=known_names(wanted), only=wanted.splits)
    return Reading(splits, names, tuple(range(len(names))))


READERS: dict[str, Callable[[Path, Wanted], Reading]] = {"masks": read_masks, "coco": read_coco, "yolo": read_yolo}


@opening()
def read_dense(
    root: Path, *, format: str | None, wanted: Wanted, val_fraction: float | None = None, val_digest: str | None = None
) -> DenseFolder:
    """List the images under `root` with what is known of them; raise DataError with one line where something is wrong.

    `val_fraction` (None: 0.1 beside a test split, else 0.2) is the share that validates where there is no val split.
    `val_digest` is what an earlier reading recorded: other images in the validation set are then refused.
    """
    format = recognise(root, format)
    found = READERS[format](root, wanted)
    splits = dict(found.splits)
    if "train" not in splits:
        raise DataError(f"{root}: has {', '.join(splits) or 'no splits'}, but nothing to train on; expected a split named train")
    say_unseen(splits["train"], found.class_names)
    seen = dict(zip(splits, shown_by(splits.values(), found.masks, wanted), strict=True))
    digest = None
    if "val" in splits:
        if val_fraction is not None:
            raise DataError(f"val_fraction is {val_fraction}, but {splits['val'].where} is there and validates; leave out one")
    else:
        val_fraction = (VAL_FRACTION if "test" in splits else VAL_FRACTION_ALONE) if val_fraction is None else val_fraction
        fraction = number("val_fraction", val_fraction, least=0.001, most=0.9)
        splits["train"], splits["val"], digest = _split(splits["train"], fraction)
        check_digest(root, val_digest, digest)
        text = "%s: no val split, so %d of %d images (the same for every seed) validate; data.val_fraction sets the share"
        log.info(text, root, len(splits["val"]), len(splits["val"]) + len(splits["train"]))
    for split, part in splits.items():
        check_labelled(part, found.masks, least=2 if split == "train" else 1)
    for split, classes in seen.items():
        say_unseen_classes(found.splits[split], found.masks, classes, trained=None if split == "train" else seen["train"])
    say_shared(root, splits)
    return DenseFolder(
        root, format, splits["train"], splits["val"], splits.get("test", splits["val"]), found.class_names, found.categories,
        found.masks, val_fraction if digest else None, digest,
    )  # fmt: skip


def read_dense_for_evaluation(
    root: Path, *, format: str | None, wanted: Wanted, val_fraction: float | None = None, val_digest: str | None = None
) -> DenseFolder:
    """List the images that a trained network is measured on: test and val splits, or either, else all that there are.

    `val_fraction` and `val_digest` are those of the training. Where these are the images that it read, only those that it set
    aside are measured, since it has seen all others.
    """
    format = recognise(root, format)
    found = READERS[format](root, replace(wanted, splits=MEASURED))
    parts = [found.splits[split] for split in MEASURED if split in found.splits]
    if not parts:
        parts = [*found.splits.values()]
        if aside := aside_before(parts[0], val_fraction, val_digest):
            told = "%s: holds the images of the training, so the %d of %d that were set aside to validate are measured"
            log.info(told, root, len(aside), len(parts[0]))
            parts = [aside]
    seen = shown_by(parts, found.masks, wanted)
    for part, classes in zip(parts, seen, strict=True):
        check_labelled(part, found.masks)
        say_unseen_classes(part, found.masks, classes, trained=set(range(len(found.class_names))))
    return DenseFolder(root, format, parts[0], parts[0], parts[-1], found.class_names, found.categories, found.masks)


def shown_by(parts: Iterable[Annotated], masks: MaskClasses | None, wanted: Wanted) -> list[set[int]]:
    """Return the classes that the masks of every split show, none of objects; what is wrong is told, or skipped as is wanted."""
    return look_through(parts, masks) if wanted.on_error == "raise" else [shown_classes(part, masks) for part in parts]


def say_unseen(part: Annotated, names: tuple[str, ...]) -> None:
    """Log the classes of which the training images show no object."""
    if part.things is None:
        return
    counts = np.bincount(part.things.labels, minlength=len(names))
    if unseen := [name for name, count in zip(names, counts, strict=True) if count == 0]:
        log.warning("%s: no object is of %d of the %d classes: %s", part.where, len(unseen), len(names), first_of(unseen, 5))


def _split(part: Annotated, fraction: float) -> tuple[Annotated, Annotated, str]:
    if len(part) < 2:
        raise DataError(f"{part.where}: holds {len(part)} image, and one must train and one validate; add images or a val split")
    return set_aside(part, fraction)


def aside_before(part: Annotated, fraction: float | None, digest: str | None) -> Annotated | None:
    """Return what is set aside of a split where that is what an earlier reading recorded, else None: it has other images."""
    if digest is None or len(part) < 2:
        return None
    _, aside, found = set_aside(part, number("val_fraction", fraction, least=0.001, most=0.9))
    return aside if found == digest else None


def check_digest(root: Path, recorded: str | None, now: str) -> None:
    """Raise DataError where other images would validate than those that were recorded."""
    if recorded not in (None, now):
        raise DataError(
            f"{root}: its images are no longer those of which some were set aside for validation (val_digest is {recorded},"
            f" now {now}): images that trained would validate; restore the folder, or train on it anew"
        )
