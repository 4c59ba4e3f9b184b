"""A source in one line, and as flat arrays for simple baselines."""

from __future__ import annotations

import numpy as np

from lmsearch.data.info import Dataset, Source
from lmsearch.data.order import cut

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def describe(source: Source) -> str:
    """Return one line: name, targets, image shape and the number of samples of each set."""
    info = source.info
    height, width = info.img_size
    what = f"{info.num_classes} {info.targets.outputs}"
    fresh = hasattr(source.train, "stream")
    train = f"{source.train.steps_per_epoch} batches of fresh data per epoch" if fresh else f"{source.train.epoch_size(1)}"
    test = "the val set" if source.test is source.val else f"{source.test.epoch_size(1)}"
    sizes = f"train {train}, val {source.val.epoch_size(1)}, test {test}"
    return f"{info.name}: {what}, images {info.in_chans}x{height}x{width}, {sizes}"


def as_arrays(source: Source, *, limit: int = 20_000) -> Arrays | None:
    """Return (x_train, y_train, x_test, y_test), images flattened as evaluation sees them: x (N, C*H*W) float32, y (N,) int64.

    None for dense targets and where a set is larger than `limit` images.
    """
    sets = (source.train, source.test)
    if not source.info.targets.classes or any(part.epoch_size(1) > limit for part in sets):
        return None
    return (*_flat(source.train), *_flat(source.test))


def _flat(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    batches = [dataset.eval_batch(indices) for indices in cut(np.arange(dataset.epoch_size(1)), 256)]
    images = np.concatenate([batch.images.flatten(1).numpy() for batch in batches])
    return images, np.concatenate([batch.targets.numpy() for batch in batches])
