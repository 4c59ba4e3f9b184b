"""A dataset that lives in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lmsearch.data.affine import BatchAugment
from lmsearch.data.batch import Batch


@dataclass(frozen=True, eq=False)
class ArrayDataset:
    """Images (N, C, H, W) float32, of [0, 1] or already normalised (mean 0, std 1), with targets (N,) or (N, L, outputs)."""

    images: torch.Tensor
    targets: torch.Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: BatchAugment | None = None
    in_memory: bool = True

    @property
    def labels(self) -> np.ndarray | None:
        """Class labels (N,) int64, or None for dense targets."""
        return self.targets.numpy() if self.targets.ndim == 1 else None

    def epoch_size(self, global_batch: int) -> int:
        """Return the number of samples, whatever the batch."""
        return len(self.images)

    def train_batch(self, indices: np.ndarray, *, seed: int, epoch: int) -> Batch:
        """Return the samples `indices` (B,), augmented by the address (seed, epoch, index)."""
        images = self.images[torch.from_numpy(indices)]
        if self.augment is not None:
            images = self.augment(images, indices, num_samples=len(self.images), seed=seed, epoch=epoch)
        return self._batch(images, indices)

    def eval_batch(self, indices: np.ndarray) -> Batch:
        """Return the samples `indices` (B,) as they are."""
        return self._batch(self.images[torch.from_numpy(indices)], indices)

    def _batch(self, images: torch.Tensor, indices: np.ndarray) -> Batch:
        """Return the normalised images with their targets."""
        mean = torch.tensor(self.mean)[:, None, None]
        std = torch.tensor(self.std)[:, None, None]
        numbers = torch.from_numpy(indices)
        return Batch((images - mean) / std, self.targets[numbers], numbers)
