"""Training batches keep their size where files are broken: readable samples of the batch take the places of others.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import TypeVar

import numpy as np

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
