"""What a data source is: its description that travels with the weights, its three datasets, and what a dataset can do.

Shapes: B batch, C image channels, H W image, L = H * W tokens; class targets (B,) int64, dense targets (B, L, outputs) float32,
class maps (B, H, W) int64, objects as Instances (lmsearch/data/instances.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from lmsearch.data.batch import Batch
from lmsearch.data.order import Ranks
from lmsearch.errors import DataError, did_you_mean, short

LONGEST_NAME = 1_000  # characters of a class name
VOID = 255  # a pixel of a class map that has no class: it counts neither in losses nor in scores


@dataclass(frozen=True)
class TargetKind:
    """What a sample is labelled with, and what follows from it."""

    name: str
    classes: bool  # one class per sample: it can be counted, named, mixed, weighted and told as a probability
    per_token: bool  # one target per token, so a model must make as many tokens as the targets are
    outputs: str  # what DataInfo.num_classes counts
    told: str  # what such data has, in messages
    per_pixel: bool = False  # one class per pixel of the input, or VOID
    objects: bool = False  # boxes with classes, and masks where the data has them


CLASS = TargetKind("class", classes=True, per_token=False, outputs="classes", told="classes")
DENSE = TargetKind("dense", classes=False, per_token=True, outputs="output(s) per token", told="a target per token")
SEGMENTATION = TargetKind(
    "segmentation", classes=False, per_token=False, outputs="classes of pixels", told="a class per pixel", per_pixel=True
)
INSTANCES = TargetKind("instances", classes=False, per_token=False, outputs="classes of objects", told="objects", objects=True)
TARGETS = {kind.name: kind for kind in (CLASS, DENSE, SEGMENTATION, INSTANCES)}


def target_kind(name: str) -> TargetKind:
    """Return the kind of target `name`; raise DataError for any other text."""
    if name not in TARGETS:
        raise DataError(f"target={name!r} is not a kind of target{did_you_mean(str(name), TARGETS)}")
    return TARGETS[name]


@dataclass(frozen=True)
class DataInfo:
    """What a model must know of its data; `dataclasses.asdict` gives JSON-able values and `from_dict` reads them back.

    `mean` and `std` are per channel, of images scaled to [0, 1]. `target` is "class" (one label per image) or "dense"
    (`num_classes` regression outputs per token), or another of TARGETS. `crop_pct` is the share of the resized image that
    evaluation crops. `categories`, of dense data, are the data's own names of the classes: COCO ids, values or colours (#rrggbb)
    of masks; None: the ground, which the data does not name.
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    img_size: tuple[int, int]
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    target: str = "class"
    crop_pct: float = 0.875
    categories: tuple[int | str | None, ...] = ()

    @property
    def targets(self) -> TargetKind:
        """What is known of the kind of target."""
        return target_kind(self.target)

    @classmethod
    def from_dict(cls, values: object) -> DataInfo:
        """Build from `dataclasses.asdict` output, also after a trip through JSON; raise DataError for wrong or missing keys."""
        if not isinstance(values, Mapping):
            raise DataError(f"data description: {short(values)} is not an object")
        names = [f.name for f in fields(cls)]
        for key in values:
            if key not in names:
                raise DataError(f"data description: {short(key)} is not a known key{did_you_mean(str(key), names)}")
        needed = [f.name for f in fields(cls)][:7]
        if missing := [name for name in needed if name not in values]:
            raise DataError(f"data description: keys are missing: {', '.join(missing)}")
        listed: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        read = cls(**listed)
        read._check()
        return read

    def _check(self) -> None:
        """Raise DataError where a value is not of the kind that its key takes."""
        kinds = {
            "name": _text(self.name),
            "num_classes": _whole(self.num_classes, least=0),
            "class_names": isinstance(self.class_names, tuple) and all(map(_name, self.class_names)),
            "img_size": isinstance(self.img_size, tuple) and len(self.img_size) == 2 and all(map(_whole, self.img_size)),
            "in_chans": _whole(self.in_chans),
            "mean": _channels(self.mean, self.in_chans),
            "std": _channels(self.std, self.in_chans) and min(self.std) > 0,
            "target": self.target in TARGETS if _text(self.target) else False,
            "crop_pct": _number(self.crop_pct) and 0 < self.crop_pct <= 1,
            "categories": isinstance(self.categories, tuple) and all(map(_category, self.categories)),
        }
        if wrong := [key for key, right in kinds.items() if not right]:
            raise DataError(f"data description: {wrong[0]} cannot be {short(getattr(self, wrong[0]))}")
        if self.num_classes != len(self.class_names):
            told = f"num_classes is {self.num_classes}, but class_names lists {len(self.class_names)}"
            raise DataError(f"data description: {told}; expected a name for each")
        if self.categories and len(self.categories) != self.num_classes:
            raise DataError(f"data description: categories lists {len(self.categories)}, num_classes is {self.num_classes}")


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _name(value: Any) -> bool:
    return _text(value) and len(value) <= LONGEST_NAME


def _category(value: Any) -> bool:
    """Tell whether a class may be called that in a data set of objects or masks."""
    return value is None or _name(value) or (type(value) is int and abs(value) < 2**63)


def _whole(value: Any, *, least: int = 1) -> bool:
    return type(value) is int and value >= least


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _channels(values: Any, channels: Any) -> bool:
    """Tell whether there is one number for every channel."""
    return isinstance(values, tuple) and len(values) == channels and all(map(_number, values))


class Dataset(Protocol):
    """Samples by index. `train_batch` augments by the address (seed, epoch, index); `eval_batch` does not augment."""

    @property
    def labels(self) -> np.ndarray | None:
        """The classes (N,) int64, for stratified splits; None for dense targets."""

    @property
    def in_memory(self) -> bool:
        """True where no worker processes are worth starting."""

    def epoch_size(self, global_batch: int) -> int:
        """Return the number of samples of one epoch; a stream of fresh data depends on the batch over all ranks."""

    def train_batch(self, indices: np.ndarray, *, seed: int, epoch: int) -> Batch:
        """Return the augmented samples `indices` (B,)."""

    def eval_batch(self, indices: np.ndarray) -> Batch:
        """Return the samples `indices` (B,) as evaluation sees them."""


@runtime_checkable
class Stream(Dataset, Protocol):
    """A dataset that gives fresh samples in every epoch: it is not split, but names streams of other samples."""

    def stream(self, name: str) -> Dataset:
        """Return a stream of other samples."""

    def holdout(self) -> Dataset:
        """Return fixed samples that no stream gives."""


class Samples(Protocol):
    """Batches of samples that can be gone through again and again; `world` are the processes that share them."""

    @property
    def world(self) -> Ranks:
        """The processes, of which each goes through a part."""

    @property
    def num_samples(self) -> int:
        """The number of samples of one pass."""

    def __len__(self) -> int:
        """The number of batches of one pass."""

    def __iter__(self) -> Iterator[Batch]:
        """Begin a pass."""


class Picked(Samples, Protocol):
    """Some samples of a pass, which processes share."""

    def alone(self) -> Samples:
        """Return them all for this process alone."""


class HeldOut(Samples, Protocol):
    """Samples of which some can be had alone."""

    def at(self, places: np.ndarray) -> Picked:
        """Return the samples at some ascending places (n,) of a pass, in its order; no others are read where that can be."""


class Loader(Samples, Protocol):
    """Batches of the epoch that was set last, from the batch on that was set with it."""

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        """Make the next iteration give `epoch`, from batch number `start_batch` on."""

    def close(self) -> None:
        """End worker processes; the next pass starts new ones."""


@dataclass(frozen=True)
class Source:
    """A data source: description and datasets. `test` is the val dataset itself where there is no separate test set.

    `sampler` says how weights are trained on it: "shuffled", or "balanced", which draws all classes alike.
    """

    info: DataInfo
    train: Dataset
    val: Dataset
    test: Dataset
    sampler: str = "shuffled"
    remembered: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)  # worked out of its samples

    def balanced(self) -> Source:
        """Return the source with all classes drawn alike; raise DataError where there are no classes."""
        if self.train.labels is None:
            raise DataError(f"data.sampler=balanced needs data with classes; {self.info.name} has none")
        return replace(self, sampler="balanced")
