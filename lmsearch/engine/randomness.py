"""Randomness with an address: every random draw is keyed by what it is for, never by what was drawn before."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lmsearch.data import Batch
from lmsearch.data.keyed import hashed_uniforms
from lmsearch.engine.devices import sent
from lmsearch.models.drop_path import drawing

COLUMNS = 64  # numbers that are drawn for a sample at a time: one per layer


def key(*parts: int | str) -> int:
    """Return a 63-bit seed for an address such as (seed, "drop_path", epoch, step); equal on every machine.

    PyTorch fills its CPU generator from the lower 32 bits: of some 80,000 addresses two probably share their numbers there.
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator for the address `parts`."""
    return torch.Generator().manual_seed(key(*parts))


@dataclass
class SampleDraws:
    """Numbers in [0, 1] for the samples of a batch: that of a sample depends on `address`, its index and the layer only.

    `indices` (B,) lies on the CPU; the numbers are given on `device`, brought there once for many layers.
    """

    indices: Tensor
    device: torch.device
    address: tuple[int | str, ...]
    tables: dict[int, Tensor] = field(default_factory=dict, init=False)

    def __call__(self, layer: int) -> Tensor:
        """Return the numbers (B,) of a layer."""
        table, column = divmod(layer, COLUMNS)
        if table not in self.tables:
            drawn = hashed_uniforms(self.indices.numpy(), COLUMNS, *self.address, table)  # (B, COLUMNS)
            self.tables[table] = sent(torch.from_numpy(drawn).float(), self.device)
        return self.tables[table][:, column]


def by_sample(batch: Batch, *, seed: int, epoch: int) -> AbstractContextManager[None]:
    """Within this context networks drop paths of the batch's samples by (seed, epoch, sample index, layer)."""
    return drawing(SampleDraws(batch.indices, batch.inputs.device, ("drop path", seed, epoch)))
