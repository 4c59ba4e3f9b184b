"""Randomness with an address: every random number is a function of what it is for (seed, epoch, sample), never of process state."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np


def keyed_rng(*address: int | str) -> np.random.Generator:
    """Return a fresh generator for `address`, such as ("augment", seed, epoch, index): equal addresses give equal streams."""
    text = "/".join(str(part) for part in address)
    key = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def permutation(size: int, *address: int | str) -> np.ndarray:
    """Return a (size,) int64 permutation of range(size) for `address`."""
    return np.argsort(keyed_rng(*address).random(size), kind="stable")


@lru_cache(maxsize=8)
def uniforms(rows: int, columns: int, *address: int | str) -> np.ndarray:
    """Return a (rows, columns) float32 table in [0, 1) for `address`: one row per sample of an epoch. Cached: read-only."""
    table = keyed_rng(*address).random((rows, columns), dtype=np.float32)
    table.setflags(write=False)
    return table
