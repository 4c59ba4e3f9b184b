"""A dataset that lives in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lmsearch.data.affine import BatchAugment
from lmsearch.data.batch import Batch

LARGEST_BYTE = 255


@dataclass(frozen=True, eq=False)
class ArrayDataset:
    """Images (N, C, H, W) with targets (N,) or (N, L, outputs).

    Images are float32 of [0, 1], or already normalised (mean 0, std 1), or bytes of 0 to 255, a quarter of the memory.
    """

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

    def names(self) -> list[bytes] | None:
        """Return the bytes of every image that a file gave; None where images were computed."""
        return None if self.images.is_floating_point() else [image.tobytes() for image in self.images.numpy()]

    def epoch_size(self, global_batch: int) -> int:
        """Return the number of samples, whatever the batch."""
        return len(self.images)

    def train_batch(self, indices: np.ndarray, *, seed: int, epoch: int) -> Batch:
        """Return the samples `indices` (B,), augmented by the address (seed, epoch, index)."""
        images = self._pixels(indices)
        if self.augment is not None:
            images = self.augment(images, indices, num_samples=len(self.images), seed=seed, epoch=epoch)
        return self._batch(images, indices)

    def eval_batch(self, indices: np.ndarray) -> Batch:
        """Return the samples `indices` (B,) as they are."""
        return self._batch(self._pixels(indices), indices)

    def _pixels(self, indices: np.ndarray) -> torch.Tensor:
        images = self.images[torch.from_numpy(indices)]
        return images if images.is_floating_point() else images.float() / LARGEST_BYTE

    def _batch(self, images: torch.Tensor, indices: np.ndarray) -> Batch:
        """Return the normalised images with their targets."""
        mean = torch.tensor(self.mean)[:, None, None]
        std = torch.tensor(self.std)[:, None, None]
        numbers = torch.from_numpy(indices)
        return Batch((images - mean) / std, self.targets[numbers], numbers)
