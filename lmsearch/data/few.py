"""A part of a data source, for trainings that must be brief: every class with its share, the same part for every seed.

Shapes: as in lmsearch.data.info.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from lmsearch.data.batch import Batch
from lmsearch.data.info import Dataset, Source, Stream
from lmsearch.data.splitting import stratified_split


@dataclass(frozen=True, eq=False)
class Few:
    """The samples of `base` at ascending `places` (n,), numbered from 0."""

    base: Dataset
    places: np.ndarray

    @property
    def labels(self) -> np.ndarray | None:
        """Their classes."""
        return None if self.base.labels is None else self.base.labels[self.places]

    @property
    def in_memory(self) -> bool:
        """Whether the samples of `base` are held in memory."""
        return self.base.in_memory

    def epoch_size(self, global_batch: int) -> int:
        """Return the number of samples, whatever the batch."""
        return len(self.places)

    def train_batch(self, indices: np.ndarray, *, seed: int, epoch: int) -> Batch:
        """Return augmented samples."""
        return self._own(self.base.train_batch(self.places[indices], seed=seed, epoch=epoch))

    def eval_batch(self, indices: np.ndarray) -> Batch:
        """Return samples as evaluation sees them."""
        return self._own(self.base.eval_batch(self.places[indices]))

    def _own(self, batch: Batch) -> Batch:
        return batch._replace(indices=torch.from_numpy(np.searchsorted(self.places, batch.indices.numpy())))


def few(source: Source, *, train: int, val: int) -> Source:
    """Return at most `train` training and `val` validation samples of a source; the validation samples are its test set too.

    A stream of fresh data stays as long as it is.
    """
    part = _part(source.val, val, "val")
    return replace(source, train=_part(source.train, train, "train"), val=part, test=part)


def _part(dataset: Dataset, number: int, name: str) -> Dataset:
    if isinstance(dataset, Stream) or (size := dataset.epoch_size(1)) <= number:
        return dataset
    if dataset.labels is None:
        return Few(dataset, np.unique(np.linspace(0, size - 1, number).round().astype(int)))
    return Few(dataset, stratified_split(dataset.labels, number / size, "few", name)[1])
