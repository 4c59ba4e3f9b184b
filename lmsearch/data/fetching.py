"""From requests for samples to batches, in order, in this process or in worker processes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from lmsearch.data.batch import Batch
from lmsearch.data.broken import refilled
from lmsearch.data.info import Dataset
from lmsearch.data.keyed import address_key
from lmsearch.data.undisturbed import CAN_TELL, leave_signals, signals_held
from lmsearch.errors import DataError, SourceError, first_line
from lmsearch.interrupts import SIGNALS

log = logging.getLogger(__name__)
DIED = "a process that reads images was killed, most often for want of memory; lower num_workers, 0 reads in this process"
PIECE = 128  # images that one process reads at a time; larger batches are put together of such pieces
KILLED = "is killed by signal"  # PyTorch's words, where its signal handler raises
NEWS_WITHIN = 1.0  # seconds from a worker's death to the signal of it, on a busy machine


class Request(NamedTuple):
    """One batch to fetch: `epoch` None means as evaluation sees it.

    `copies` (B,) tells samples apart that an epoch draws several times: each time they are augmented anew.
    """

    indices: np.ndarray
    seed: int = 0
    epoch: int | None = None
    copies: np.ndarray | None = None

    def pieces(self) -> list[Request]:
        """Return requests for PIECE of the samples at a time."""
        cuts = [slice(first, first + PIECE) for first in range(0, len(self.indices), PIECE)]
        copies = [None if self.copies is None else self.copies[cut] for cut in cuts]
        return [self._replace(indices=self.indices[cut], copies=some) for cut, some in zip(cuts, copies, strict=True)]


def copy_seed(seed: int, copy: int) -> int:
    """Return the seed by which a sample is augmented when an epoch draws it once more; the run's own for the first time."""
    return seed if copy == 0 else address_key("copy", seed, copy) % 2**62


class _Reader(torch.utils.data.Dataset[Batch]):
    """The dataset as worker processes see it: a batch per request, a broken file as a message rather than a traceback.

    `pool` (n,) are the samples that may take the places of others.
    """

    def __init__(self, dataset: Dataset, pool: np.ndarray) -> None:
        self.dataset, self.pool = dataset, pool

    def __getitem__(self, request: Request) -> Batch:
        try:
            if request.epoch is None:
                return self.dataset.eval_batch(request.indices)
            if request.copies is None:
                return self.trained_on(request.indices, seed=request.seed, epoch=request.epoch)
            return self.of_copies(request.indices, request.copies, seed=request.seed, epoch=request.epoch)
        except DataError as error:
            return Batch(torch.empty(0), torch.empty(0), torch.empty(0), error=str(error))

    def trained_on(self, indices: np.ndarray, *, seed: int, epoch: int) -> Batch:
        """Return augmented samples, as many as are asked for."""
        return refilled(partial(self.dataset.train_batch, seed=seed, epoch=epoch), indices, self.pool)

    def of_copies(self, indices: np.ndarray, copies: np.ndarray, *, seed: int, epoch: int) -> Batch:
        """Return a batch whose samples may be drawn several times, those of the first time first."""
        return Batch.joined(
            self.trained_on(indices[copies == copy], seed=copy_seed(seed, int(copy)), epoch=epoch) for copy in np.unique(copies)
        )


class _Requests:
    """The sampler of a DataLoader: what to fetch next time it is iterated."""

    def __init__(self) -> None:
        self.pending: list[Request] = []

    def __iter__(self) -> Iterator[Request]:
        return iter(self.pending)

    def __len__(self) -> int:
        return len(self.pending)


@contextmanager
def killed_worker() -> Iterator[None]:
    """Tell of a killed worker process in one line; PyTorch raises for it wherever the main thread happens to be."""
    try:
        yield
    except RuntimeError as error:
        if not _tells_of_death(error):
            raise
        raise DataError(f"{DIED} ({first_line(error)})") from error


def _tells_of_death(error: Exception) -> bool:
    """Tell whether an error says that a worker process is gone, rather than what went wrong in it."""
    return isinstance(error, (ConnectionError, EOFError)) or str(error).startswith("DataLoader worker (pid")


def _await_the_news(error: Exception) -> None:
    """Let PyTorch raise now what its signal handler would raise later; it raises once for all workers of a loader.

    A broken pipe or a missing process is seen before the signal of its death, which then lands in any later line.
    """
    if KILLED in str(error):
        return
    try:
        time.sleep(NEWS_WITHIN)
    except RuntimeError as news:
        if not _tells_of_death(news):
            raise


def _kill(batches: Any) -> None:
    """End the other workers of a loader that lost one.

    PyTorch tells workers to end by an event whose lock the dead one may hold for ever; nobody is left to be told.
    """
    if batches is None:
        return
    for worker in batches._workers:
        worker.kill()
        worker.join()
    batches._workers_done_event = threading.Event()
    batches._shutdown_workers()


def _as_is(batch: Any) -> Any:
    return batch


class Fetcher:
    """Turns requests into batches, in order, with or without worker processes; counts skipped files.

    `pool` (n,) are the samples that may take the places of others in training.
    """

    def __init__(
        self, dataset: Dataset, pool: np.ndarray, *, what: str, num_workers: int, pin_memory: bool, persistent: bool
    ) -> None:
        self.what = what
        self.reader = _Reader(dataset, pool)
        self.in_memory = dataset.in_memory
        self.num_workers = 0 if self.in_memory else num_workers
        self.pin_memory = pin_memory and torch.cuda.is_available()
        self.persistent = persistent and self.num_workers > 0
        self.requests = _Requests()
        self.workers: DataLoader[Batch] | None = None
        self.skipped: dict[str, None] = {}  # each file once
        self.told: set[str] = set()

    def fetch(self, requests: list[Request], *, when: str) -> Iterator[Batch]:
        """Yield a batch per request, then warn of skipped files not told of before; of evaluation empty ones are left out."""
        self.skipped = {}
        cuts = [[request] if self.in_memory else request.pieces() for request in requests]
        whole = all(len(cut) == 1 for cut in cuts)  # pieces are pinned where they are joined
        pieces = self._batches([piece for cut in cuts for piece in cut], pin_memory=self.pin_memory and whole)
        for cut in cuts:
            if read := [batch for batch in map(self._checked, islice(pieces, len(cut))) if len(batch.inputs)]:
                yield self._pinned(read[0]) if len(read) == 1 else Batch.joined(read, pinned=self.pin_memory)
        if new := sorted(self.skipped.keys() - self.told):
            self.told.update(new)
            log.warning("%s, %s: %d unreadable image(s) skipped, first: %s", self.what, when, len(new), new[0])

    def _checked(self, batch: Batch) -> Batch:
        """Note what was skipped in a batch; raise SourceError where it brings an error."""
        if batch.error is not None:
            raise SourceError(batch.error)
        self.skipped |= dict.fromkeys(batch.skipped)
        return batch

    def _pinned(self, batch: Batch) -> Batch:
        return batch.pin_memory() if self.pin_memory else batch  # what is pinned already stays as it is

    def _batches(self, requests: list[Request], *, pin_memory: bool) -> Iterator[Batch]:
        number = self.num_workers
        if not self.persistent:  # what is started for this pass alone must have something to do at a time
            number = min(number, len(requests)) if len(requests) > 1 else 0
        if number == 0:
            for request in requests:
                yield self.reader[request]
            return
        if self.workers is None:
            self.workers = DataLoader(
                self.reader,
                batch_size=None,
                sampler=self.requests,
                collate_fn=_as_is,
                num_workers=number,
                pin_memory=pin_memory,
                persistent_workers=self.persistent,
                worker_init_fn=leave_signals,
                generator=torch.Generator(),  # its own: the global state must not move
            )
        self.requests.pending = requests
        batches = None
        try:
            starts = CAN_TELL and self.workers._iterator is None  # persistent ones are there already
            with signals_held(SIGNALS) if starts else nullcontext():
                batches = iter(self.workers)
            yield from batches
        except (RuntimeError, ConnectionError, EOFError) as error:
            if _tells_of_death(error):
                _await_the_news(error)
                _kill(batches or self.workers._iterator)
            self.close()  # with a dead one, every later pass over the others would fail
            if not _tells_of_death(error):
                raise
            raise DataError(f"{self.what}: {DIED} ({first_line(error)})") from error

    def close(self) -> None:
        """End the worker processes; the next fetch starts new ones.

        An error may still know them: once Python finds that out, they hear of their end no more, and are waited for in vain.
        """
        reading: Any = None if self.workers is None else self.workers._iterator
        if reading is not None:
            reading._shutdown_workers()
        self.workers = None
