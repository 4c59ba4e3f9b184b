"""Images of a user's own with a class per pixel or with objects; lmsearch/data/dense/ reads the layouts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lmsearch.data.checks import choice, interval, number, size2d, whole
from lmsearch.data.dense.dataset import DenseDataset
from lmsearch.data.dense.folder import GROUND, Categories, DenseFolder, Wanted, read_dense
from lmsearch.data.dense.labels import ObjectLabels, PixelLabels
from lmsearch.data.dense.masks import MOST_CLASSES
from lmsearch.data.dense.records import Annotated
from lmsearch.data.info import INSTANCES, SEGMENTATION, DataInfo, Dataset, Source, TargetKind
from lmsearch.data.joint import JointTransform
from lmsearch.data.sources.imagefolder import normalisation
from lmsearch.data.survey import survey
from lmsearch.errors import DataError
from lmsearch.words import first_of

KINDS = {kind.name: kind for kind in (SEGMENTATION, INSTANCES)}


def build_dense(
    *,
    root: str | os.PathLike[str] | DenseFolder,
    format: str | None = None,
    target: str = SEGMENTATION.name,
    ignore_index: int = 255,
    reduce_zero_label: bool = False,
    val_fraction: float | None = None,
    val_digest: str | None = None,
    img_size: int | Sequence[int] | None = None,
    in_chans: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    scale: Sequence[float] = (0.5, 2.0),
    ratio: Sequence[float] = (0.8, 1.25),
    flip_prob: float = 0.5,
    colour: float = 0.3,
    on_error: str = "raise",
    class_names: Sequence[str] | None = None,
    categories: Categories | None = None,
) -> Source:
    """Return the images under `root` (or of a folder that was read) with labels of the kind `target`.

    `format` forces a layout (None: recognised). `ignore_index` (-1: none) is a mask value without class; `reduce_zero_label`:
    0 is one too. `img_size` and `in_chans` None are chosen by the images; `mean`, `std`, `val_fraction`, `val_digest` as of
    image folders. `scale`, `ratio`, `flip_prob`, `colour` are those of JointTransform. `on_error`: what is broken ends the run
    ("raise"), or is left out, counted and logged ("skip"). `class_names` and `categories` are those of training.
    """
    kind = KINDS[choice("target", target, tuple(KINDS))]
    choice("on_error", on_error, ("raise", "skip"))
    names = None if class_names is None else tuple(class_names)
    wanted = Wanted(
        whole("ignore_index", ignore_index, least=-1),
        reduce_zero_label,
        on_error,
        names,
        None if categories is None else tuple(categories),
        per_pixel=kind.per_pixel,
    )
    if isinstance(root, DenseFolder):
        folder = root
    else:
        folder = read_dense(Path(root), format=format, wanted=wanted, val_fraction=val_fraction, val_digest=val_digest)
    size, chans = _looks(folder, img_size, in_chans)
    labelled = labels_of(folder, kind)
    info = _info(folder, kind, size, chans, mean, std)
    if names is not None and info.class_names != names:
        told = f"its classes are {first_of(info.class_names, 8)}; those of training {first_of(names, 8)}"
        if folder.masks is None and kind.per_pixel and names[:1] != (GROUND,):
            told += f"; objects fit where the first class of training is {GROUND!r}, else give masks"
        raise DataError(f"{folder.root}: read as {folder.format}, {told}")
    transform = JointTransform(
        size,
        interval("scale", scale, least=0.01, most=10),
        interval("ratio", ratio, least=0.1, most=10),
        number("flip_prob", flip_prob, least=0, most=1),
        number("colour", colour, least=0, most=1),
    )

    def dataset(part: Annotated) -> DenseDataset:
        return DenseDataset(part, info, labelled, transform, on_error)

    train, val = dataset(folder.train), dataset(folder.val)
    return Source(info, train, val, val if folder.test is folder.val else dataset(folder.test))


def labels_of(folder: DenseFolder, kind: TargetKind) -> PixelLabels | ObjectLabels:
    """Return how images are labelled; raise DataError where the folder does not have such labels."""
    if kind.per_pixel:
        if folder.masks is None and not folder.has_outlines:
            told = f"{folder.num_boxes} of {folder.num_things} objects have a box only"
            raise DataError(f"{folder.root}: a class per pixel needs the outline of every object, but {told}; train boxes on it")
        if folder.masks is None and len(folder.class_names) + 1 > MOST_CLASSES:
            told = f"its {len(folder.class_names)} classes and the ground are more than the {MOST_CLASSES} that a pixel can be of"
            raise DataError(f"{folder.root}: {told}; train objects on it")
        return PixelLabels(folder.masks)
    if folder.masks is not None:
        raise DataError(
            f"{folder.root}: masks of classes do not tell objects apart; give COCO or YOLO labels, or train {SEGMENTATION.name}"
        )
    return ObjectLabels(masks=folder.has_outlines)


def without_masks(source: Source) -> Source:
    """Return a source whose batches have no masks of objects; boxes stay those of the pixels seen, and what is measured too."""

    def boxed(part: Dataset) -> Dataset:
        if not isinstance(part, DenseDataset) or not isinstance(part.labelled, ObjectLabels):
            return part
        return replace(part, labelled=replace(part.labelled, sent=False))

    val = boxed(source.val)
    return replace(source, train=boxed(source.train), val=val, test=val if source.test is source.val else boxed(source.test))


def _looks(folder: DenseFolder, img_size: object, in_chans: int | None) -> tuple[tuple[int, int], int]:
    """Return the size and channels that images are given to the network with."""
    if in_chans not in (None, 1, 3):
        raise DataError(f"in_chans is {in_chans!r}; image files are read with 1 (grey) or 3 (RGB) channels")
    if img_size is not None and in_chans is not None:
        return size2d("img_size", img_size), in_chans
    seen = survey(folder.train.paths())
    return seen.img_size if img_size is None else size2d("img_size", img_size), seen.in_chans if in_chans is None else in_chans


def _info(
    folder: DenseFolder,
    kind: TargetKind,
    size: tuple[int, int],
    chans: int,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
) -> DataInfo:
    """Return what a model must know of the data."""
    ground = kind.per_pixel and folder.masks is None
    names = (GROUND, *folder.class_names) if ground else folder.class_names
    return DataInfo(
        "dense",
        len(names),
        names,
        size,
        chans,
        *normalisation(mean, std, chans),
        target=kind.name,
        crop_pct=1.0,
        categories=(None, *folder.categories) if ground else folder.categories,
    )
