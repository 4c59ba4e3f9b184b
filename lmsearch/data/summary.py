"""A source as flat arrays, for simple baselines."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from lmsearch.data.info import Dataset, Source
from lmsearch.data.order import cut

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def as_arrays(source: Source, *, limit: int = 20_000, side: int | None = None) -> Arrays | None:
    """Return (x_train, y_train, x_test, y_test), images flattened as evaluation sees them: x (N, C*H*W) float32, y (N,) int64.

    Images with longer sides than `side` are shrunk to it. None for dense targets and where a set is larger than `limit` images.
    """
    sets = (source.train, source.test)
    if not source.info.targets.classes or any(part.epoch_size(1) > limit for part in sets):
        return None
    height, width = source.info.img_size
    size = (height, width) if side is None else (min(side, height), min(side, width))
    return (*_flat(source.train, size), *_flat(source.test, size))


def _flat(dataset: Dataset, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for indices in cut(np.arange(dataset.epoch_size(1)), 256):
        batch = dataset.eval_batch(indices)
        small = batch.inputs if batch.inputs.shape[2:] == size else F.adaptive_avg_pool2d(batch.inputs, size)
        images.append(small.flatten(1).numpy())
        labels.append(batch.target_values.numpy())
    return np.concatenate(images), np.concatenate(labels)
