"""Samples on their way to a network, and the one place where a user's own batches become ours.

Shapes: B batch, C image channels, H W image, L = H * W tokens; the inputs of a user's network are what it takes, (B, ...).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from lmsearch.data.instances import Instances
from lmsearch.data.keyed import address_key
from lmsearch.data.order import ALONE, Ranks
from lmsearch.data.own_size import OwnSize
from lmsearch.errors import DataError, short


class Batch(NamedTuple):
    """Samples with their numbers: all that is drawn at random for a sample is drawn by its number, not by its place.

    `skipped` names unreadable files, `error` is a message to raise: of batches on their way from worker processes.
    `own` tells of every image that is evaluated what it is at its own size; None where answers are measured at the input's.
    `places` are those of the samples in the batch `of` so many that several processes share, None where this is all of it, and by
    `weight` their mean counts in the mean over processes.
    """

    inputs: torch.Tensor  # (B, C, H, W) float32, normalised
    targets: torch.Tensor | Instances  # (B,) int64, mixed (B, classes) float32, (B, L, outputs) float32, (B, H, W) int64
    indices: torch.Tensor  # (B,) int64 numbers of the samples in their dataset, always on the CPU
    skipped: tuple[str, ...] = ()
    error: str | None = None
    own: tuple[OwnSize, ...] | None = None
    places: torch.Tensor | None = None  # (B,) int64
    weight: float = 1.0
    of: int = 0

    @property
    def target_values(self) -> torch.Tensor:
        """The targets as one tensor; raises DataError where they are objects."""
        if isinstance(self.targets, Instances):
            raise DataError("these targets are objects, of which there is no one tensor")
        return self.targets

    def to(self, device: torch.device) -> Batch:
        """Return the same batch with inputs and targets on a device."""
        inputs, targets = self.inputs.to(device, non_blocking=True), self.targets.to(device, non_blocking=True)
        return self._replace(inputs=inputs, targets=targets)

    def pin_memory(self) -> Batch:
        """Return the same batch in memory that a GPU reads fast."""
        return self._replace(inputs=self.inputs.pin_memory(), targets=self.targets.pin_memory())

    def take(self, places: torch.Tensor) -> Batch:
        """Return the samples at some places (n,) of the batch; `places` lies on the CPU."""
        there = places.to(self.inputs.device)
        own = None if self.own is None else tuple(self.own[place] for place in places.tolist())
        taken = self._replace(inputs=self.inputs[there], targets=self.targets[there], indices=self.indices[places], own=own)
        return taken if self.places is None else taken._replace(places=self.places[places])

    @classmethod
    def joined(cls, parts: Iterable[Batch], *, pinned: bool = False) -> Batch:
        """Return several batches as one, `pinned` in memory that a GPU reads fast."""
        parts = list(parts)
        join = _joined_pinned if pinned else torch.cat
        inputs, indices = join([part.inputs for part in parts]), torch.cat([part.indices for part in parts])
        skipped = tuple(line for part in parts for line in part.skipped)
        own = [part.own for part in parts if part.own is not None]
        together = tuple(one for some in own for one in some) if len(own) == len(parts) else None
        objects = [part.targets for part in parts if isinstance(part.targets, Instances)]  # all or none
        if objects:
            held = Instances.joined(objects)
            return cls(inputs, held.pin_memory() if pinned else held, indices, skipped, own=together)
        return cls(inputs, join([part.target_values for part in parts]), indices, skipped, own=together)


def _joined_pinned(parts: list[torch.Tensor]) -> torch.Tensor:
    """Return torch.cat(parts) in pinned memory, into which they are copied once."""
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    return torch.cat(parts, out=torch.empty(shape, dtype=parts[0].dtype, pin_memory=True))


def as_batch(pair: object, *, first: int, what: str) -> Batch:
    """Return a user's (inputs, targets) as a batch whose samples are numbered from `first`; a Batch stays as it is.

    Raises DataError for anything but two tensors with a value for each sample.
    """
    if isinstance(pair, Batch):
        return pair
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(part, torch.Tensor) for part in pair):
        raise DataError(f"{what}: {short(pair)} is no pair of tensors (inputs, targets)")
    inputs, targets = pair
    if inputs.dim() == 0 or targets.dim() == 0 or len(inputs) != len(targets):
        shapes = f"{tuple(inputs.shape)} and {tuple(targets.shape)}"
        raise DataError(f"{what}: inputs and targets of shapes {shapes} are not of equally many samples")
    return Batch(inputs, targets, torch.arange(first, first + len(inputs)))


class Batches(Protocol):
    """What PyTorch's DataLoader and a list of batches have in common."""

    def __len__(self) -> int:
        """The number of batches of a pass."""

    def __iter__(self) -> Iterator[object]:
        """Begin a pass."""


@dataclass(frozen=True)
class SomeOf:
    """The samples at ascending `places` (n,) of a pass of `whole`, joined to batches of about its size."""

    whole: Iterable[Batch]
    places: np.ndarray

    @property
    def num_samples(self) -> int:
        """The number of samples."""
        return len(self.places)

    @property
    def world(self) -> Ranks:
        """This process alone: every one goes through all of `whole`."""
        return ALONE

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Batch]:
        held: list[Batch] = []
        seen = size = 0
        for batch in self.whole:
            number = len(batch.inputs)
            here = self.places[(self.places >= seen) & (self.places < seen + number)] - seen
            seen, size = seen + number, max(size, number)
            held += [batch.take(torch.from_numpy(here))] if len(here) else []
            if sum(len(part.inputs) for part in held) >= size:
                yield Batch.joined(held)
                held = []
        if held:
            yield Batch.joined(held)

    def at(self, places: np.ndarray) -> SomeOf:
        """Return the samples at some ascending places of these."""
        return SomeOf(self.whole, self.places[places])

    def alone(self) -> SomeOf:
        """Return the same samples, which every process goes through for itself."""
        return self


class PlainLoader:
    """A user's iterable of (inputs, targets), such as PyTorch's DataLoader, as a loader for training and evaluation.

    Batches without a sample are left out, though counted by its length.

    Samples are numbered in the order of a pass. A DataLoader that shuffles does so by (seed, epoch), with a generator of
    its own, too.
    Raises DataError where the iterable can be iterated only once, tells no length, or gives no pairs, or no sample.
    """

    sampler = "shuffled"
    skipped: tuple[str, ...] = ()
    world: Ranks = ALONE  # every process goes through all of it

    def __init__(self, batches: Batches, *, what: str, seed: int = 0) -> None:
        if isinstance(batches, Iterator):
            raise DataError(f"{what} can be iterated only once; give a DataLoader or a list of (inputs, targets)")
        if not hasattr(batches, "__len__"):
            raise DataError(f"{what}: {type(batches).__name__} tells no number of batches (len)")
        self.batches, self.what, self.seed = batches, what, seed
        self._epoch, self._start_batch = 0, 0
        self._num_samples: int | None = None

    @property
    def num_samples(self) -> int:
        """The number of samples of one pass, counted once."""
        if self._num_samples is None:
            self._num_samples = sum(len(batch.inputs) for batch in self._pass(0))
        return self._num_samples

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        """Make the next iteration give `epoch`, from batch number `start_batch` on."""
        self._epoch, self._start_batch = epoch, start_batch

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self._pass(self._epoch)):
            if number >= self._start_batch:
                yield batch

    def close(self) -> None:
        """Nothing: worker processes are the user's."""

    def at(self, places: np.ndarray) -> SomeOf:
        """Return the samples at these ascending places (n,) of a pass; the iterable is gone through for them."""
        return SomeOf(self, places)

    def _pass(self, epoch: int) -> Iterator[Batch]:
        """Yield all batches of a pass."""
        seed = address_key("shuffle", self.seed, epoch) % 2**63
        with seeded(generators_of(self.batches), seed):
            with torch.random.fork_rng(devices=[]):  # a DataLoader draws its order when the first batch is asked for
                torch.manual_seed(seed)
                pairs = iter(self.batches)
                pair = next(pairs, None)
            seen = 0
            while pair is not None:
                batch = as_batch(pair, first=seen, what=self.what)
                seen += len(batch.inputs)
                if len(batch.inputs):
                    yield batch
                pair = next(pairs, None)
            if seen == 0:
                raise DataError(f"{self.what} holds no sample")


def generators_of(batches: Batches) -> list[torch.Generator]:
    """Return the generators that were given to a DataLoader and its samplers, each once."""
    outer = getattr(batches, "batch_sampler", None)
    owners = (batches, getattr(batches, "sampler", None), outer, getattr(outer, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(one): one for one in found if isinstance(one, torch.Generator)}.values())


@contextmanager
def seeded(generators: Sequence[torch.Generator], seed: int) -> Iterator[None]:
    """Seed generators for the block, and leave them as they were before it."""
    before = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)
