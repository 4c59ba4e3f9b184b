"""A dataset that lives in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lmsearch.data.affine import BatchAugment
from lmsearch.data.info import Batch


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
        return Batch(self._normalise(images), self.targets[torch.from_numpy(indices)])

    def eval_batch(self, indices: np.ndarray) -> Batch:
        """Return the samples `indices` (B,) as they are."""
        return Batch(self._normalise(self.images[torch.from_numpy(indices)]), self.targets[torch.from_numpy(indices)])

    def _normalise(self, images: torch.Tensor) -> torch.Tensor:
        mean = torch.tensor(self.mean)[:, None, None]
        std = torch.tensor(self.std)[:, None, None]
        return (images - mean) / std
