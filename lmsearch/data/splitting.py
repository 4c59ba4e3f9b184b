"""Stratified splits of sample indices, keyed by a seed."""

from __future__ import annotations

import numpy as np

from lmsearch.data.keyed import keyed_rng


def stratified_split(labels: np.ndarray, fraction: float, *address: int | str) -> tuple[np.ndarray, np.ndarray]:
    """Split range(N) into (rest, part), both sorted, with floor(N * fraction) samples in `part`.

    Samples are ordered by class and, within a class, at random by `address`; evenly spaced ones go to `part`, so every class
    keeps its share to within one sample. `labels` is (N,) int64.
    """
    order = np.lexsort((keyed_rng(*address).random(len(labels)), labels))
    steps = np.floor(np.arange(len(labels) + 1) * fraction + 1e-9)
    taken = np.diff(steps) > 0  # (N,) in `order`
    return np.sort(order[~taken]), np.sort(order[taken])
