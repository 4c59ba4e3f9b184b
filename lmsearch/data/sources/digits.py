"""Handwritten digits that ship with scikit-learn: 1797 real images of 8x8 pixels, 10 classes.

One fixed stratified 60/20/20 split, whatever the seed of a run: every number of every run is about the same test images.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from lmsearch.data.affine import BatchAugment
from lmsearch.data.arrays import ArrayDataset
from lmsearch.data.checks import number, whole
from lmsearch.data.info import DataInfo, Source
from lmsearch.data.splitting import stratified_split

SPLIT_SEED = 20240314
LARGEST_VALUE = 16.0


def split_indices(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the fixed (train, val, test) indices."""
    rest, test = stratified_split(labels, 0.2, "digits-test", SPLIT_SEED)
    train, val = stratified_split(labels[rest], 0.25, "digits-val", SPLIT_SEED)
    return rest[train], rest[val], test


@cache
def read_digits() -> tuple[Tensor, np.ndarray, tuple[str, ...]]:
    """Return images (N, 1, 8, 8) of [0, 1], classes (N,) and their names, read once; change only copies of them."""
    from sklearn.datasets import load_digits  # slow to import, and other data need it not

    digits = load_digits()
    images = torch.from_numpy(digits.images.astype(np.float32) / LARGEST_VALUE)[:, None]  # (N, 1, 8, 8)
    return images, digits.target.astype(np.int64), tuple(map(str, digits.target_names))


def build_digits(*, shift: int = 1, rotate_degrees: float = 10.0, scale: float = 0.1) -> Source:
    """Return the digits; training images are shifted by up to `shift` pixels, turned and zoomed (0 turns each off).

    `rotate_degrees` in [0, 180], `scale` in [0, 0.9]: zoom in [1 - scale, 1 + scale].
    """
    augment = BatchAugment(
        shift=whole("shift", shift),
        rotate_degrees=number("rotate_degrees", rotate_degrees, least=0, most=180),
        scale=number("scale", scale, least=0, most=0.9),
    )
    images, labels, names = read_digits()
    train, val, test = split_indices(labels)
    mean, std = (round(float(f(images[train])), 4) for f in (torch.mean, torch.std))
    info = DataInfo("digits", 10, names, (8, 8), 1, (mean,), (std,), crop_pct=1.0)
    targets = torch.from_numpy(labels)

    def taken(part: np.ndarray, augment: BatchAugment | None = None) -> ArrayDataset:
        return ArrayDataset(images[part], targets[part], info.mean, info.std, augment=augment)

    return Source(info, taken(train, augment), taken(val), taken(test))
