"""How one device computes: in which numbers, and how much at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from lmsearch.data import Batch
from lmsearch.data.order import cut, paired

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """How one device computes: in fp32, bf16 or fp16 (with loss scaling), and on how many samples at a time (None: all).

    With `grad_checkpointing` the backward pass computes the inside of every mixer again, which then is not kept. With `compile`
    training runs what torch.compile makes of the mixers.
    """

    device: torch.device
    name: str = "fp32"
    micro_batch: int | None = None
    grad_checkpointing: bool = False
    compile: bool = False

    def scaler(self) -> torch.amp.GradScaler:
        """Return a new loss scaler: on for fp16, one that does nothing otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which forward passes run."""
        dtype = AUTOCAST[self.name]
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to the device."""
        return batch.to(self.device)

    def parts(self, batch: Batch, *, in_order: bool = False) -> Iterator[tuple[Batch, float]]:
        """Yield a batch in parts of at most `micro_batch` samples, each with its share of them.

        What mixup mixes stays in one part, where parts are of even size; `in_order` samples follow each other as in the batch.
        The mean over a batch is the sum of the parts' means times their shares, so gradients of the parts add up.
        """
        size = len(batch.inputs)
        if self.micro_batch is None or size <= self.micro_batch:
            yield batch, 1.0
            return
        for places in cut(np.arange(size) if in_order else paired(size), self.micro_batch):
            yield batch.take(torch.from_numpy(places)), len(places) / size
