"""Orders of a sequence as the operators take them: forwards in time, and backwards."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def time_orders(length: int, device: torch.device, *, forwards: int = 1, backwards: int = 0) -> Tensor:
    """Return (K, L) int32: `forwards` rows that visit 0 to L - 1, then `backwards` rows that visit L - 1 to 0."""
    if torch.compiler.is_compiling():
        return _made(length, device, forwards, backwards)
    return _kept(length, device, forwards, backwards)


def _made(length: int, device: torch.device, forwards: int, backwards: int) -> Tensor:
    row = torch.arange(length, dtype=torch.int32, device=device)
    return torch.cat([row.expand(forwards, -1), row.flip(0).expand(backwards, -1)])


@lru_cache(maxsize=64)
def _kept(length: int, device: torch.device, forwards: int, backwards: int) -> Tensor:
    with torch.inference_mode(False):  # what is kept must also serve a later training step
        return _made(length, device, forwards, backwards)
