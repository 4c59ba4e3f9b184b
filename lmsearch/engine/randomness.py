"""Randomness with an address: every random draw is keyed by what it is for, never by what was drawn before."""

from __future__ import annotations

import hashlib

import torch


def key(*parts: int | str) -> int:
    """Return a 63-bit seed for an address such as (seed, "drop_path", epoch, step); equal on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator for the address `parts`."""
    return torch.Generator().manual_seed(key(*parts))
