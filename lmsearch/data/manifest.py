"""What tells the samples of a set from any others, in few words: so that a run goes on with those it was begun on.

Shapes: N samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from lmsearch.data.info import DataInfo, Dataset, Stream
from lmsearch.errors import LmsearchError, short

DIGITS = 16  # of a digest
NO_CLASS = ""  # of samples that have no class


@runtime_checkable
class Named(Protocol):
    """A dataset that tells what each sample is known by, apart from its class."""

    def names(self) -> Sequence[bytes] | None:
        """Return a file, or pixels, for each sample (N,), in their order; None where the configuration alone tells them."""


@dataclass(frozen=True)
class Manifest:
    """How many samples every class of a set has, and a digest of what they are known by, in their order."""

    classes: Mapping[str, tuple[int, str]]

    @classmethod
    def of(cls, dataset: Dataset, info: DataInfo) -> Manifest:
        """Return the manifest of a dataset; that of a stream of fresh data, which follows from its configuration, is empty."""
        if isinstance(dataset, Stream):
            return cls({})
        names = dataset.names() if isinstance(dataset, Named) else None
        labels, size = dataset.labels, dataset.epoch_size(1)
        parts = {NO_CLASS: np.arange(size)} if labels is None else _by_class(labels, info)
        return cls({name: (len(places), _digest(places, names)) for name, places in parts.items()})

    @classmethod
    def from_dict(cls, values: object, *, source: str, error: type[LmsearchError]) -> Manifest:
        """Return what `to_dict` gave; raise `error`, naming `source`, for anything else."""
        if not isinstance(values, Mapping):
            raise error(f"{source}: {short(values)} tells no samples")
        for name, told in values.items():
            if not isinstance(told, list | tuple) or [type(value) for value in told] != [int, str]:
                raise error(f"{source}: {short(told)} tells no samples of {short(name)}; expected their number and a digest")
        return cls({str(name): (number, digest) for name, (number, digest) in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {name: list(told) for name, told in self.classes.items()}

    @property
    def number(self) -> int:
        """The number of samples."""
        return sum(number for number, _ in self.classes.values())

    def change_to(self, now: Manifest) -> str:
        """Return how the samples have changed since, "" where they are the same."""
        if now.classes == self.classes:
            return ""
        name = next(name for name in (*self.classes, *now.classes) if self.classes.get(name) != now.classes.get(name))
        told, (had, _), (has, _) = "others", self.classes.get(name, (0, "")), now.classes.get(name, (0, ""))
        if had != has:
            told = f"{has} where there were {had}"
        first = f"class {short(name)} has {told}" if name != NO_CLASS else "the files or labels are others"
        return f"{self.number} then, {now.number} now, first difference: {first}"


def _by_class(labels: np.ndarray, info: DataInfo) -> dict[str, np.ndarray]:
    """Return the places of the samples of every class that has some, by its name."""
    order = np.argsort(labels, kind="stable")
    numbers, first = np.unique(labels[order], return_index=True)
    parts = np.split(order, first[1:]) if len(order) else []
    return {info.class_names[number]: places for number, places in zip(numbers.tolist(), parts, strict=True)}


def _digest(places: np.ndarray, names: Sequence[bytes] | None) -> str:
    """Return a digest of the names of samples at some places or, where they have none, of the places."""
    digest = hashlib.sha256()
    if names is None:
        digest.update(places.astype("<i8").tobytes())
    else:
        for place in places.tolist():
            digest.update(b"%d " % len(names[place]) + names[place])
    return digest.hexdigest()[:DIGITS]
