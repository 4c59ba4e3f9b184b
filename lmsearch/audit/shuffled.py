"""A source whose targets have nothing to do with its images: on it a search must find nothing.

Shapes: as in lmsearch.data.info.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from lmsearch.data import Source
from lmsearch.data.batch import Batch
from lmsearch.data.info import Dataset, Stream
from lmsearch.data.keyed import hashed_uniforms, permutation


@dataclass(frozen=True, eq=False)
class Altered:
    """As many samples as `base` has, from the same place."""

    base: Dataset

    @property
    def in_memory(self) -> bool:
        """As the images."""
        return self.base.in_memory

    def epoch_size(self, global_batch: int) -> int:
        """As before."""
        return self.base.epoch_size(global_batch)


@dataclass(frozen=True, eq=False)
class ShuffledLabels(Altered):
    """Images of `base` with the labels of other images: as many of each class as before."""

    labels: np.ndarray

    def train_batch(self, indices: np.ndarray, *, seed: int, epoch: int) -> Batch:
        """Return augmented images with shuffled labels."""
        return self._relabelled(self.base.train_batch(indices, seed=seed, epoch=epoch))

    def eval_batch(self, indices: np.ndarray) -> Batch:
        """Return images with shuffled labels."""
        return self._relabelled(self.base.eval_batch(indices))

    def _relabelled(self, batch: Batch) -> Batch:
        return batch._replace(targets=batch.target_values.new_tensor(self.labels[batch.indices.numpy()]))


@dataclass(frozen=True, eq=False)
class RolledTargets(Altered):
    """Images of `base`, each with the dense targets of its neighbour in the batch, or alone in it of another sample of `base`.

    Only where there is no other sample, or none that can be read, an image keeps its own.
    """

    labels: None = None

    def train_batch(self, indices: np.ndarray, *, seed: int, epoch: int) -> Batch:
        """Return augmented images with other images' targets."""
        return self._rolled(partial(self.base.train_batch, seed=seed, epoch=epoch), indices, seed, epoch)

    def eval_batch(self, indices: np.ndarray) -> Batch:
        """Return images with other images' targets."""
        return self._rolled(self.base.eval_batch, indices, "eval")

    def _rolled(self, read: Callable[[np.ndarray], Batch], indices: np.ndarray, *address: int | str) -> Batch:
        batch = read(indices)
        if len(batch.targets) != 1:
            places = torch.arange(len(batch.targets)).roll(1)
            return batch._replace(targets=batch.targets[places.to(batch.inputs.device)], own=None)
        others = (read(other) for other in self._others(batch.indices.numpy(), *address))
        return batch._replace(targets=next((other.targets for other in others if len(other.targets)), batch.targets), own=None)

    def _others(self, index: np.ndarray, *address: int | str) -> Iterator[np.ndarray]:
        """Yield the numbers (1,) of all samples but this one (1,), from a random place on and around."""
        size = self.base.epoch_size(1)
        first = int(hashed_uniforms(index, 1, "alone", *address)[0, 0] * (size - 1))
        for number in range(size - 1):
            yield (index + 1 + (first + number) % (size - 1)) % size


@dataclass(frozen=True, eq=False)
class RolledStream(RolledTargets):
    """The same for a stream of fresh data."""

    base: Stream

    def stream(self, name: str) -> RolledTargets:
        """Return a stream of other samples."""
        return RolledTargets(self.base.stream(name))

    def holdout(self) -> RolledTargets:
        """Return fixed samples that no stream gives."""
        return RolledTargets(self.base.holdout())


def shuffled(source: Source, *, seed: int) -> Source:
    """Return `source` with targets that its images do not tell, in every set."""

    def one(name: str, dataset: Dataset) -> Dataset:
        if dataset.labels is not None:
            order = permutation(len(dataset.labels), "shuffled", name, seed)
            return ShuffledLabels(dataset, np.asarray(dataset.labels)[order])
        return RolledStream(dataset) if isinstance(dataset, Stream) else RolledTargets(dataset)

    train, val, test = (one(name, getattr(source, name)) for name in ("train", "val", "test"))
    return replace(source, train=train, val=val, test=test)
