"""Training batches keep their size where files are broken: readable samples of the batch take the places of others.

A batch of which nothing can be read takes the next readable sample, so that every process does as many steps as the others.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import TypeVar

import numpy as np
import torch

from lmsearch.data.batch import Batch
from lmsearch.errors import DataError

T = TypeVar("T")


def readable_samples(indices: np.ndarray, make: Callable[[int, int], T | None]) -> tuple[list[T], np.ndarray]:
    """Return a sample for every index (B,), and the index that each comes from; nothing where none can be read.

    `make(index, key)` reads sample `index`, augmented as `key` says, or returns None. In the place of a broken one a readable
    one is read again, by the key of the broken one.
    """
    made = [make(index, index) for index in indices.tolist()]
    readable = [index for index, sample in zip(indices.tolist(), made, strict=True) if sample is not None]
    if not readable:
        return [], indices[:0]
    sources = indices.copy()
    broken = [place for place, sample in enumerate(made) if sample is None]
    for place, index in zip(broken, cycle(readable), strict=False):
        sources[place], made[place] = index, make(index, int(indices[place]))
    return [sample for sample in made if sample is not None], sources  # all of them by now


def refilled(read: Callable[[np.ndarray], Batch], indices: np.ndarray, pool: np.ndarray) -> Batch:
    """Return the batch that `read` makes of the samples `indices` (B,): of that size also where none of them can be read.

    Then the next readable sample of `pool` (n,), in which they are, takes all places. Raises DataError where there is none.
    """
    batch = read(indices)
    if len(batch.inputs) == len(indices):
        return batch
    skipped = list(batch.skipped)
    for other in np.roll(pool, -1 - int(np.flatnonzero(pool == indices[0])[0])):
        probe = read(np.array([other]))
        skipped += probe.skipped
        if len(probe.inputs):
            whole = read(np.append(indices, other)).take(torch.arange(len(indices)))
            return whole._replace(skipped=tuple(dict.fromkeys(skipped)))
    raise DataError(f"none of {len(pool)} samples can be read, first: {skipped[0]}")
