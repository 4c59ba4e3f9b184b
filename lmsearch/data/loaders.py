"""Loaders: from a source to batches, the same for any number of workers and any place to resume.

A train loader gives epoch 0 until `set_epoch` is called. Loaders of files start worker processes where num_workers > 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from lmsearch.data.batch import Batch
from lmsearch.data.checks import number, whole
from lmsearch.data.fetching import Fetcher, Request
from lmsearch.data.info import Dataset, HeldOut, Loader, Source, Stream
from lmsearch.data.order import (
    ALONE,
    OwnPart,
    Ranks,
    balanced_order,
    check_batches,
    cut,
    own_part,
    share_of,
    train_length,
    train_order,
    whole_batches,
)
from lmsearch.data.splitting import stratified_split
from lmsearch.errors import DataError, SourceError


class TrainLoader:
    """Shuffled, augmented batches, of which this process has its part. Sizes count the samples over all processes.

    The sampler "balanced" draws as many samples of every class, small ones several times, in epochs as long as before.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        seed: int,
        indices: np.ndarray | None = None,
        stream: str = "train",
        sampler: str = "shuffled",
        what: str = "training set",
        world: Ranks = ALONE,
        drop_last: bool = True,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.batch_size = whole("batch_size", batch_size, least=1)
        self.seed = whole("seed", seed)
        self.world: Ranks = world
        share_of(self.batch_size, world)
        self.indices = np.arange(dataset.epoch_size(self.batch_size)) if indices is None else indices
        self.num_samples = len(self.indices)
        self.labels = None if dataset.labels is None else dataset.labels[self.indices]
        self.stream, self.sampler, self.drop_last = stream, sampler, drop_last
        check_batches(self.num_samples, what=what, world=world, **self._cut())
        workers = whole("num_workers", num_workers)
        self._fetcher = Fetcher(dataset, self.indices, what=what, num_workers=workers, pin_memory=pin_memory, persistent=True)
        self._epoch, self._start_batch = 0, 0

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        """Make the next iteration give `epoch`, from batch number `start_batch` on (to resume inside an epoch)."""
        self._epoch = whole("epoch", epoch)
        self._start_batch = whole("start_batch", start_batch)

    def epoch_indices(self, epoch: int) -> np.ndarray:
        """Return the sample indices that this process visits in `epoch`, in order."""
        return np.concatenate([indices for indices, _, _ in self._draws(epoch)])

    @property
    def classes(self) -> np.ndarray:
        """The class of every sample (N,); raises DataError where the targets are none."""
        if self.labels is None:
            raise DataError("samples are counted and drawn by class only where their targets are classes")
        return self.labels

    def class_counts(self, num_classes: int) -> np.ndarray:
        """Return how many samples of every class (C,) there are."""
        return np.bincount(self.classes, minlength=num_classes)

    def _draws(self, epoch: int) -> list[tuple[np.ndarray, np.ndarray | None, OwnPart]]:
        """Return this process's part of every batch: sample indices, how often the epoch has drawn each before, if it may at all,
        and the part that it is.
        """
        address = ("shuffle", self.stream, self.seed, epoch)
        if self.sampler == "shuffled":
            order, copies = train_order(self.num_samples, address=address, **self._cut()), None
        else:
            order, copies = whole_batches(balanced_order(self.classes, *address), **self._cut()).T
        draws = []
        for batch in cut(np.arange(len(order)), self.batch_size):
            if copies is not None:
                batch = batch[np.argsort(copies[batch], kind="stable")]  # in the order in which they are read
            part = own_part(len(batch), self.world)
            own = batch[part.places]
            draws.append((self.indices[order[own]], None if copies is None else copies[own], part))
        return draws

    def __iter__(self) -> Iterator[Batch]:
        draws = self._draws(self._epoch)[self._start_batch :]
        requests = [Request(indices, self.seed, self._epoch, copies) for indices, copies, _ in draws]
        batches = self._fetcher.fetch(requests, when=f"epoch {self._epoch}")
        if self.world.size == 1:
            return batches
        parts = zip(batches, draws, strict=True)
        return (
            batch._replace(places=torch.from_numpy(part.places), weight=part.weight, of=part.of) for batch, (_, _, part) in parts
        )

    def __len__(self) -> int:
        return train_length(self.num_samples, batch_size=self.batch_size, drop_last=self.drop_last)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Unreadable files skipped so far in the current or last epoch, each as "path: reason"."""
        return tuple(self._fetcher.skipped)

    def close(self) -> None:
        """End the worker processes; iterating again starts new ones."""
        self._fetcher.close()

    def _cut(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size, "drop_last": self.drop_last}


class EvalLoader:
    """Every sample once, unaugmented, in order. Processes take turns without padding, so they may differ by one.

    Raises DataError for a set of fewer samples than processes; of samples `picked` from one some processes may have none.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        indices: np.ndarray | None = None,
        what: str = "evaluation set",
        world: Ranks = ALONE,
        num_workers: int = 0,
        pin_memory: bool = False,
        picked: bool = False,
    ) -> None:
        self.batch_size = whole("batch_size", batch_size, least=1)
        indices = np.arange(dataset.epoch_size(self.batch_size)) if indices is None else indices
        self.num_samples = len(indices)
        self._indices = indices
        self._part = partial(
            EvalLoader, dataset, batch_size=batch_size, what=what, world=world, num_workers=num_workers, pin_memory=pin_memory
        )
        if 0 < self.num_samples < world.size and not picked:
            raise DataError(
                f"{what}: {self.num_samples} sample(s) cannot be shared by {world.size} processes; give it more samples"
            )
        self.world: Ranks = world
        self._batches = cut(indices[world.rank :: world.size], share_of(self.batch_size, world))
        workers = whole("num_workers", num_workers)
        self._fetcher = Fetcher(dataset, indices, what=what, num_workers=workers, pin_memory=pin_memory, persistent=False)

    def __iter__(self) -> Iterator[Batch]:
        return self._fetcher.fetch([Request(batch) for batch in self._batches], when="evaluation")

    def __len__(self) -> int:
        return len(self._batches)

    def at(self, places: np.ndarray) -> EvalLoader:
        """Return a loader of the samples at these places (n,) of all processes' pass; only they are read."""
        return self._part(indices=self._indices[places], picked=True)

    def alone(self) -> EvalLoader:
        """Return a loader of all samples for this process alone, in batches of as many as it has of one now."""
        return self._part(indices=self._indices, batch_size=share_of(self.batch_size, self.world), world=ALONE)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Unreadable files skipped so far in the current or last pass, each as "path: reason"."""
        return tuple(self._fetcher.skipped)


class Loaders(NamedTuple):
    """What training needs. Where data have no test set of their own, `test` is `val`."""

    train: TrainLoader
    val: EvalLoader
    test: EvalLoader

    @property
    def num_measured(self) -> int:
        """Number of samples that validation and test evaluate together."""
        return self.val.num_samples + (0 if self.test is self.val else self.test.num_samples)


class SearchLoaders(NamedTuple):
    """What a search needs: disjoint training batches for weights and alphas, and the alphas' samples for evaluation."""

    weights: Loader
    alphas: Loader
    holdout: HeldOut
    val: HeldOut | None


def build_loaders(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    eval_batch_size: int | None = None,
    drop_last: bool = True,
    world: Ranks = ALONE,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Loaders:
    """Return (train, val, test). `batch_size` counts the samples of all processes; `eval_batch_size` defaults to it.

    Raises DataError where the training set makes no full batch and `drop_last` is set.
    """
    common: dict[str, Any] = {"world": world, "num_workers": num_workers, "pin_memory": pin_memory}
    train = TrainLoader(
        source.train,
        batch_size=batch_size,
        seed=seed,
        sampler=source.sampler,
        drop_last=drop_last,
        what=f"{source.info.name} training set",
        **common,
    )
    size = eval_batch_size or batch_size
    val = EvalLoader(source.val, batch_size=size, what=f"{source.info.name} val set", **common)
    if source.test is source.val:
        return Loaders(train, val, val)
    return Loaders(train, val, EvalLoader(source.test, batch_size=size, what=f"{source.info.name} test set", **common))


def search_loaders(
    source: Source,
    *,
    holdout: float,
    batch_size: int,
    seed: int,
    eval_batch_size: int | None = None,
    drop_last: bool = True,
    world: Ranks = ALONE,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> SearchLoaders:
    """Split the training set once by `seed` into a share `holdout` in (0, 1) for alphas and the rest for weights.

    The split is stratified by class. A stream of fresh data is not split: weights, alphas and holdout get streams of their own.
    """
    if not 0 < number("holdout", holdout) < 1:
        raise DataError(f"holdout is {holdout!r}; expected a fraction between 0 and 1, both excluded")
    common: dict[str, Any] = {"world": world, "num_workers": num_workers, "pin_memory": pin_memory}
    name, size = source.info.name, eval_batch_size or batch_size
    parts = split_for_search(source, holdout=holdout, seed=seed)
    weights, alphas = (
        TrainLoader(
            dataset,
            indices=indices,
            batch_size=batch_size,
            seed=seed,
            stream=stream,
            sampler=source.sampler if stream == "weights" else "shuffled",  # alphas see classes as the data has them
            drop_last=drop_last and stream == "weights",  # the alphas' part may be smaller than a batch
            what=f"{name} training set, the part that the {stream} learn on",
            **common,
        )
        for stream, (dataset, indices) in zip(("weights", "alphas"), parts[:2], strict=True)
    )
    dataset, indices = parts[2]
    held = EvalLoader(dataset, indices=indices, batch_size=size, what=f"{name} held-out part", **common)
    return SearchLoaders(weights, alphas, held, EvalLoader(source.val, batch_size=size, what=f"{name} val set", **common))


def split_for_search(source: Source, *, holdout: float, seed: int) -> list[tuple[Dataset, np.ndarray | None]]:
    """Return (dataset, indices) for weights, alphas and the evaluation of the held-out part; indices None means all."""
    train = source.train
    if isinstance(train, Stream):
        return [(train.stream("weights"), None), (train.stream("alphas"), None), (train.holdout(), None)]
    size = train.epoch_size(1)
    labels = np.zeros(size, dtype=np.int64) if train.labels is None else train.labels
    rest, part = stratified_split(labels, holdout, "holdout", seed)
    if len(rest) == 0 or len(part) == 0:
        parts = f"{len(rest)} for weights and {len(part)} for alphas"
        raise DataError(f"holdout is {holdout:g}: {size} training samples make {parts}; both need some")
    return [(train, rest), (train, part), (train, part)]


def spread(loader: HeldOut, number: int) -> Batch:
    """Return at most `number` samples, evenly spaced over all that the loader gives, as one batch; the same in every process.

    Raises SourceError where none of them can be read.
    """
    places = np.unique(np.linspace(0, loader.num_samples - 1, number).round().astype(int))
    parts = list(loader.at(places).alone())  # so few that every process reads them all
    if not parts:
        raise SourceError(f"none of {len(places)} samples that were picked can be read")
    return Batch.joined(parts)
