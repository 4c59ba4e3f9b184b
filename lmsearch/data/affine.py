"""Augmentation of whole batches of small in-memory images: shifts, rotations and scalings without a loop over samples.

Shapes: images (B, C, H, W) float32 in [0, 1]; per-sample numbers (B,). What moves in from outside is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from lmsearch.data.keyed import uniforms


def shift_images(images: torch.Tensor, dy: torch.Tensor, dx: torch.Tensor) -> torch.Tensor:
    """Move image b down by dy[b] and right by dx[b] whole pixels (int64, either sign)."""
    batch, channels, height, width = images.shape
    rows = torch.arange(height) - dy[:, None]  # (B, H): where each output row comes from
    columns = torch.arange(width) - dx[:, None]  # (B, W)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]  # (B, H, W)
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    source = source.reshape(batch, 1, height * width).expand(-1, channels, -1)
    moved = images.reshape(batch, channels, -1).gather(2, source).reshape(images.shape)
    return moved * inside[:, None].to(moved.dtype)


def turn_images(images: torch.Tensor, radians: torch.Tensor, zoom: torch.Tensor) -> torch.Tensor:
    """Rotate image b by radians[b] and enlarge it by zoom[b] about its centre, bilinear."""
    height, width = images.shape[-2:]
    cos, sin, none = torch.cos(radians) / zoom, torch.sin(radians) / zoom, torch.zeros_like(zoom)
    theta = torch.stack([cos, -sin * height / width, none, sin * width / height, cos, none], dim=1).reshape(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@dataclass(frozen=True)
class BatchAugment:
    """Random shift by up to `shift` pixels, rotation by up to `rotate_degrees`, zoom in [1 - scale, 1 + scale]; 0: off."""

    shift: int = 1
    rotate_degrees: float = 10.0
    scale: float = 0.1

    def __call__(self, images: torch.Tensor, indices: np.ndarray, *, num_samples: int, seed: int, epoch: int) -> torch.Tensor:
        """Augment `images`, the samples `indices` of a dataset of `num_samples`, by the address (seed, epoch, index)."""
        table = uniforms(num_samples, 4, "augment", seed, epoch)
        draws = torch.from_numpy(table[indices]).unbind(1)  # four of (B,) in [0, 1)
        if self.shift:
            dy, dx = ((u * (2 * self.shift + 1)).floor().long().clamp(max=2 * self.shift) - self.shift for u in draws[:2])
            images = shift_images(images, dy, dx)
        if self.rotate_degrees or self.scale:
            radians = (2 * draws[2] - 1) * float(np.deg2rad(self.rotate_degrees))
            images = turn_images(images, radians, 1 + (2 * draws[3] - 1) * self.scale)
        return images
