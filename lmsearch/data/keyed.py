"""Randomness with an address: every random number is a function of what it is for, such as (seed, epoch, sample index)."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

GOLDEN, MIX_1, MIX_2 = (np.uint64(v) for v in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def address_key(*address: int | str) -> int:
    """Return a 128-bit number for `address`; equal addresses give equal numbers."""
    text = "/".join(str(part) for part in address)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def keyed_rng(*address: int | str) -> np.random.Generator:
    """Return a fresh generator for `address`, such as ("augment", seed, epoch, index): equal addresses give equal streams."""
    return np.random.Generator(np.random.Philox(key=address_key(*address)))


def permutation(size: int, *address: int | str) -> np.ndarray:
    """Return a (size,) int64 permutation of range(size) for `address`."""
    return np.argsort(keyed_rng(*address).random(size), kind="stable")


@lru_cache(maxsize=8)
def uniforms(rows: int, columns: int, *address: int | str) -> np.ndarray:
    """Return a (rows, columns) float32 table in [0, 1) for `address`: one row per sample of an epoch. Cached: read-only."""
    table = keyed_rng(*address).random((rows, columns), dtype=np.float32)
    table.setflags(write=False)
    return table


def hashed_uniforms(indices: np.ndarray, columns: int, *address: int | str) -> np.ndarray:
    """Return (B, columns) float64 in (0, 1): row b depends on `address` and indices[b] only (SplitMix64 of the position)."""
    key = np.uint64(address_key(*address) % 2**64)
    bits: np.ndarray = indices.astype(np.uint64)[:, None] * np.uint64(columns) + np.arange(columns, dtype=np.uint64)
    bits = key + (bits + np.uint64(1)) * GOLDEN  # wraps around, as intended
    bits = (bits ^ (bits >> np.uint64(30))) * MIX_1
    bits = (bits ^ (bits >> np.uint64(27))) * MIX_2
    bits ^= bits >> np.uint64(31)
    uniform: np.ndarray = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return uniform


def hashed_normals(indices: np.ndarray, columns: int, *address: int | str) -> np.ndarray:
    """Return (B, columns) float32 standard normal numbers: row b depends on `address` and indices[b] only (Box-Muller)."""
    pairs = -(-columns // 2)
    radius, angle = np.split(hashed_uniforms(indices, 2 * pairs, *address), 2, axis=1)  # two of (B, pairs)
    radius, angle = np.sqrt(-2 * np.log(radius)), 2 * np.pi * angle
    normals = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return normals[:, :columns].astype(np.float32)
