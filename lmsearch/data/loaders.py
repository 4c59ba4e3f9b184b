"""Loaders: from a source to batches (images (B, C, H, W), targets), the same for any number of workers and any place to resume.

A train loader gives epoch 0 until `set_epoch` is called. Loaders of files start worker processes where num_workers > 0.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from lmsearch.data.checks import number, whole
from lmsearch.data.info import Batch, Dataset, Source
from lmsearch.data.order import check_batches, cut, train_length, train_order
from lmsearch.data.splitting import stratified_split
from lmsearch.errors import DataError

log = logging.getLogger(__name__)
Pair = tuple[torch.Tensor, torch.Tensor]


class Request(NamedTuple):
    """One batch to fetch: `epoch` None means as evaluation sees it."""

    indices: np.ndarray
    seed: int = 0
    epoch: int | None = None


class _Reader:
    """The dataset as worker processes see it: a batch per request, a broken file as a message rather than a traceback."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, request: Request) -> Batch:
        try:
            if request.epoch is None:
                return self.dataset.eval_batch(request.indices)
            return self.dataset.train_batch(request.indices, seed=request.seed, epoch=request.epoch)
        except DataError as error:
            return Batch(torch.empty(0), torch.empty(0), error=str(error))


class _Requests:
    """The sampler of a DataLoader: what to fetch next time it is iterated."""

    def __init__(self) -> None:
        self.pending: list[Request] = []

    def __iter__(self) -> Iterator[Request]:
        return iter(self.pending)

    def __len__(self) -> int:
        return len(self.pending)


def _as_is(batch: Batch) -> Batch:
    return batch


class _Fetcher:
    """Turns requests into batches, in order, with or without worker processes; counts skipped files."""

    def __init__(self, dataset: Dataset, *, what: str, num_workers: int, pin_memory: bool, persistent: bool) -> None:
        self.what = what
        self.reader = _Reader(dataset)
        self.num_workers = 0 if dataset.in_memory else num_workers
        self.pin_memory = pin_memory and torch.cuda.is_available()
        self.persistent = persistent and self.num_workers > 0
        self.requests = _Requests()
        self.workers: DataLoader | None = None
        self.skipped: list[str] = []

    def fetch(self, requests: list[Request], *, when: str) -> Iterator[Pair]:
        """Yield (images, targets) per request, then warn once if files were skipped; batches left empty are left out."""
        self.skipped = []
        for batch in self._batches(requests):
            if batch.error is not None:
                raise DataError(batch.error)
            self.skipped += batch.skipped
            if len(batch.images):
                yield batch.images, batch.targets
        if self.skipped:
            log.warning("%s, %s: %d unreadable image(s) skipped, first: %s", self.what, when, len(self.skipped), self.skipped[0])

    def _batches(self, requests: list[Request]) -> Iterator[Batch]:
        if self.num_workers == 0:
            for request in requests:
                batch = self.reader[request]
                yield Batch(batch.images.pin_memory(), batch.targets.pin_memory(), *batch[2:]) if self.pin_memory else batch
            return
        if self.workers is None:
            self.workers = DataLoader(
                self.reader,
                batch_size=None,
                sampler=self.requests,
                collate_fn=_as_is,
                num_workers=self.num_workers,
                pin_memory=self.pin_memory,
                persistent_workers=self.persistent,
                generator=torch.Generator(),  # its own: the global state must not move
            )
        self.requests.pending = requests
        yield from self.workers

    def close(self) -> None:
        """End the worker processes; the next fetch starts new ones."""
        self.workers = None


class TrainLoader:
    """Shuffled, augmented batches of one rank. `num_samples` counts the samples over all ranks."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        seed: int,
        indices: np.ndarray | None = None,
        stream: str = "train",
        what: str = "training set",
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = True,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.batch_size = whole("batch_size", batch_size, least=1)
        self.seed = whole("seed", seed)
        self.rank, self.world_size = whole("rank", rank), whole("world_size", world_size, least=1)
        if self.rank >= self.world_size:
            raise DataError(f"rank is {rank}; expected less than world_size {world_size}")
        self.indices = np.arange(dataset.epoch_size(self.batch_size * self.world_size)) if indices is None else indices
        self.num_samples = len(self.indices)
        self.stream, self.drop_last = stream, drop_last
        check_batches(self.num_samples, what=what, **self._cut())
        workers = whole("num_workers", num_workers)
        self._fetcher = _Fetcher(dataset, what=what, num_workers=workers, pin_memory=pin_memory, persistent=True)
        self._epoch, self._start_batch = 0, 0

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        """Make the next iteration give `epoch`, from batch number `start_batch` on (to resume inside an epoch)."""
        self._epoch = whole("epoch", epoch)
        self._start_batch = whole("start_batch", start_batch)

    def epoch_indices(self, epoch: int) -> np.ndarray:
        """Return the sample indices that this rank visits in `epoch`, in order."""
        address = ("shuffle", self.stream, self.seed, epoch)
        order = train_order(self.num_samples, address=address, **self._cut())
        return self.indices[order[self.rank :: self.world_size]]

    def __iter__(self) -> Iterator[Pair]:
        batches = cut(self.epoch_indices(self._epoch), self.batch_size)[self._start_batch :]
        requests = [Request(batch, self.seed, self._epoch) for batch in batches]
        return self._fetcher.fetch(requests, when=f"epoch {self._epoch}")

    def __len__(self) -> int:
        return train_length(self.num_samples, **self._cut())

    @property
    def skipped(self) -> tuple[str, ...]:
        """Unreadable files skipped so far in the current or last epoch, each as "path: reason"."""
        return tuple(self._fetcher.skipped)

    def close(self) -> None:
        """End the worker processes; iterating again starts new ones."""
        self._fetcher.close()

    def _cut(self) -> dict[str, int | bool]:
        return {"batch_size": self.batch_size, "world_size": self.world_size, "drop_last": self.drop_last}


class EvalLoader:
    """Every sample once, unaugmented, in order. Ranks share the samples without padding, so they may differ by one sample."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        indices: np.ndarray | None = None,
        what: str = "evaluation set",
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.batch_size = whole("batch_size", batch_size, least=1)
        indices = np.arange(dataset.epoch_size(self.batch_size * world_size)) if indices is None else indices
        self.num_samples = len(indices)
        self._batches = cut(indices[rank::world_size], self.batch_size)
        workers = whole("num_workers", num_workers)
        self._fetcher = _Fetcher(dataset, what=what, num_workers=workers, pin_memory=pin_memory, persistent=False)

    def __iter__(self) -> Iterator[Pair]:
        return self._fetcher.fetch([Request(batch) for batch in self._batches], when="evaluation")

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Unreadable files skipped so far in the current or last pass, each as "path: reason"."""
        return tuple(self._fetcher.skipped)


class Loaders(NamedTuple):
    """What training needs."""

    train: TrainLoader
    val: EvalLoader
    test: EvalLoader


class SearchLoaders(NamedTuple):
    """What a search needs: disjoint training batches for weights and alphas, and the alphas' samples for evaluation."""

    weights: TrainLoader
    alphas: TrainLoader
    holdout: EvalLoader
    val: EvalLoader


def build_loaders(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    eval_batch_size: int | None = None,
    drop_last: bool = True,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Loaders:
    """Return (train, val, test). `batch_size` is per rank; `eval_batch_size` defaults to it."""
    common = {"rank": rank, "world_size": world_size, "num_workers": num_workers, "pin_memory": pin_memory}
    train = TrainLoader(
        source.train, batch_size=batch_size, seed=seed, drop_last=drop_last, what=f"{source.info.name} training set", **common
    )
    size = eval_batch_size or batch_size
    val, test = (
        EvalLoader(part, batch_size=size, what=f"{source.info.name} {name} set", **common)
        for name, part in (("val", source.val), ("test", source.test))
    )
    return Loaders(train, val, test)


def search_loaders(
    source: Source,
    *,
    holdout: float,
    batch_size: int,
    seed: int,
    eval_batch_size: int | None = None,
    drop_last: bool = True,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> SearchLoaders:
    """Split the training set once by `seed` into a share `holdout` in (0, 1) for alphas and the rest for weights.

    The split is stratified by class. A stream of fresh data is not split: weights, alphas and holdout get streams of their own.
    """
    if not 0 < number("holdout", holdout) < 1:
        raise DataError(f"holdout is {holdout!r}; expected a fraction between 0 and 1, both excluded")
    common = {"rank": rank, "world_size": world_size, "num_workers": num_workers, "pin_memory": pin_memory}
    name, size = source.info.name, eval_batch_size or batch_size
    parts = split_for_search(source, holdout=holdout, seed=seed)
    weights, alphas = (
        TrainLoader(
            dataset,
            indices=indices,
            batch_size=batch_size,
            seed=seed,
            stream=stream,
            drop_last=drop_last,
            what=f"{name} {stream} part of the training set",
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
    if hasattr(train, "stream"):
        return [(train.stream("weights"), None), (train.stream("alphas"), None), (train.held_out(), None)]
    size = train.epoch_size(1)
    labels = np.zeros(size, dtype=np.int64) if train.labels is None else train.labels
    rest, part = stratified_split(labels, holdout, "holdout", seed)
    if len(rest) == 0 or len(part) == 0:
        raise DataError(f"holdout is {holdout:g}: of {size} training samples, {len(rest)} are left for weights and {len(part)} for alphas")
    return [(train, rest), (train, part), (train, part)]
