"""Images of MNIST's format, such as Fashion-MNIST: the official test set is the test set, validation comes from training."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lmsearch.data.affine import BatchAugment
from lmsearch.data.arrays import ArrayDataset
from lmsearch.data.checks import LEAST_STD, number, opening, shares, whole
from lmsearch.data.idx import find_idx, read_pair
from lmsearch.data.info import LONGEST_NAME, DataInfo, Source
from lmsearch.data.splitting import stratified_split
from lmsearch.errors import DataError
from lmsearch.paths import shown
from lmsearch.reading import is_file, read_text, user_path

log = logging.getLogger(__name__)
NAMES = "names.txt"
CHUNK = 1000  # images whose values are summed at once


@dataclass(frozen=True)
class Split:
    """Which of the training images validate, and how many of the others train; as of `build_idx`."""

    val_fraction: float = 0.1
    split_seed: int = 0
    val_digest: str | None = None
    num_train: int | None = None


@dataclass(frozen=True, eq=False)
class IdxSets:
    """What the four files hold, and which training images train and validate. Images (N, C, H, W) uint8, labels (N,) int64."""

    images: torch.Tensor
    labels: np.ndarray
    train: np.ndarray
    val: np.ndarray
    test_images: torch.Tensor
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    val_digest: str


@opening()
def read_sets(root: str | Path, split: Split, *, names: str | None = None) -> IdxSets:
    """Read the four files under `root` and split the training images; `names` as of `build_idx`."""
    folder = user_path(root)
    files = find_idx(folder)
    pairs = {part: read_pair(files[part, "images"], files[part, "labels"]) for part in ("train", "test")}
    (images, labels), (test_images, test_labels) = pairs["train"], pairs["test"]
    if images.shape[1:] != test_images.shape[1:]:
        sides = " and ".join(" x ".join(map(str, pixels.shape[1:])) for pixels in (images, test_images))
        raise DataError(f"{shown(folder)}: training and test images are of {sides}; expected the same sides and channels")
    class_names = read_names(folder, names, int(labels.max()) + 1)
    if (most := int(test_labels.max())) >= len(class_names):
        raise DataError(
            f"{shown(files['test', 'labels'])}: holds the label {most}, and training only 0 to {len(class_names) - 1}"
        )
    train, val = split_training(labels.astype(np.int64), split, folder)
    digest = hashlib.sha256(labels.tobytes() + val.tobytes()).hexdigest()[:16]
    if split.val_digest not in (None, digest):
        raise DataError(
            f"{shown(folder)}: its labels are no longer those of which some were set aside for validation (val_digest is"
            f" {split.val_digest}, now {digest}): images that trained would validate; restore the files, or train on them anew"
        )
    first, last = (torch.from_numpy(p.transpose(0, 3, 1, 2).copy()) for p in (images, test_images))
    return IdxSets(first, labels.astype(np.int64), train, val, last, test_labels.astype(np.int64), class_names, digest)


def split_training(labels: np.ndarray, split: Split, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices that train and validate, every class with its share of both; `num_train` does not move the latter."""
    fraction, seed, num_train = split.val_fraction, whole("split_seed", split.split_seed), split.num_train
    fraction = number("val_fraction", fraction, least=0.001, most=0.9)
    rest, val = stratified_split(labels, fraction, "idx-val", seed)
    if not len(val):
        raise DataError(f"{shown(folder)}: val_fraction={fraction:g} of {len(labels)} training images leaves none to validate")
    if num_train is None:
        return rest, val
    if whole("num_train", num_train, least=1) > len(rest):
        raise DataError(f"num_train is {num_train}; {shown(folder)} has {len(rest)} images to train on beside {len(val)}")
    if num_train == len(rest):
        return rest, val
    return rest[stratified_split(labels[rest], num_train / len(rest), "idx-train", seed)[1]], val


def read_names(folder: Path, given: str | None, count: int) -> tuple[str, ...]:
    """Return a name per class: of the file `given` or names.txt beside the images, else 0, 1, 2, ..."""
    path = folder / NAMES if given is None else user_path(given)
    if not is_file(path):
        if given is not None:
            raise DataError(f"names={shown(given)}: no such file; expected a text file with one class name per line")
        return tuple(map(str, range(count)))
    lines = read_text(path, where=shown(path), error=DataError).splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) < count or any(len(name) > LONGEST_NAME for name in names):
        raise DataError(f"{shown(path)}: {len(names)} class names; expected {count} or more, one per line")
    return names


def mean_and_std(images: torch.Tensor, chosen: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of every channel of the `chosen` images, as shares of 255, to four digits.

    A channel that holds several values has a standard deviation above 0, however small. The sums are of whole numbers, exact.
    """
    total = squares = torch.zeros(images.shape[1], dtype=torch.int64)
    for part in np.array_split(chosen, max(1, len(chosen) // CHUNK)):
        values = images[part].long()
        total, squares = total + values.sum((0, 2, 3)), squares + values.square().sum((0, 2, 3))
    count = len(chosen) * images[0, 0].numel()
    mean, std = [], []
    for first, second in zip(total.tolist(), squares.tolist(), strict=True):
        spread = (count * second - first * first) / (count * max(count - 1, 1))
        mean.append(round(first / count / 255, 4))
        std.append(max(round(math.sqrt(spread) / 255, 4), 1e-4 if spread else 0.0))
    return tuple(mean), tuple(std)


Given = float | Sequence[float] | None  # a number per channel, or one for all; None: of the training images


def normalisation(sets: IdxSets, mean: Given, std: Given, *, where: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of every channel, those of the training images where they are not given.

    Raises DataError where they are for other channels, or a channel of the training images has one value only.
    """
    channels = sets.images.shape[1]
    for name, values in (("mean", mean), ("std", std)):
        if isinstance(values, Sequence) and len(values) != channels:
            raise DataError(f"{where}: its images have {channels} channel(s); {name}={list(values)} is for {len(values)}")
    own_mean, own_std = ((), ()) if None not in (mean, std) else mean_and_std(sets.images, sets.train)
    if std is None and 0 in own_std:
        which = own_std.index(0)
        told = (
            "all training images are of one value" if channels == 1 else f"channel {which} of all training images is of one value"
        )
        raise DataError(f"{where}: {told} ({own_mean[which]:g} of 1); there is nothing to normalise by")
    return (
        own_mean if mean is None else shares("mean", mean, count=channels),
        own_std if std is None else shares("std", std, count=channels, least=LEAST_STD),
    )


def build_idx(
    *,
    root: str | Path | IdxSets,
    val_fraction: float = 0.1,
    split_seed: int = 0,
    val_digest: str | None = None,
    num_train: int | None = None,
    names: str | None = None,
    mean: Given = None,
    std: Given = None,
    shift: int = 1,
    rotate_degrees: float = 0.0,
    zoom: float = 0.05,
) -> Source:
    """Return the images of the four idx files under `root` (or those that were read).

    `val_fraction` of every class of the training images validates, drawn by `split_seed`; `val_digest` is what an earlier
    reading recorded of that. `num_train` of the others train, every class with its share (None: all). `names` is a text file
    with one class name per line (None: names.txt beside the images, else 0, 1, 2, ...). `mean` and `std` are of images scaled
    to [0, 1] (None: of those that train; a trained network needs those that it was trained with).
    Training images are shifted by up to `shift` pixels, turned by `rotate_degrees` and zoomed in [1 - zoom, 1 + zoom].
    """
    augment = BatchAugment(
        shift=whole("shift", shift),
        rotate_degrees=number("rotate_degrees", rotate_degrees, least=0, most=180),
        scale=number("zoom", zoom, least=0, most=0.9),
    )
    split = Split(val_fraction, split_seed, val_digest, num_train)
    sets = root if isinstance(root, IdxSets) else read_sets(root, split, names=names)
    channels, height, width = sets.images.shape[1:]
    where = shown(root if isinstance(root, str | Path) else "data.root")
    mean, std = normalisation(sets, mean, std, where=where)
    info = DataInfo("idx", len(sets.class_names), sets.class_names, (height, width), channels, mean, std, crop_pct=1.0)

    def taken(images: torch.Tensor, labels: np.ndarray, augment: BatchAugment | None = None) -> ArrayDataset:
        return ArrayDataset(images, torch.from_numpy(labels), info.mean, info.std, augment=augment)

    return Source(
        info,
        taken(sets.images[sets.train], sets.labels[sets.train], augment),
        taken(sets.images[sets.val], sets.labels[sets.val]),
        taken(sets.test_images, sets.test_labels),
    )
