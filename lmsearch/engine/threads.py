"""CPU threads of a process: sums are split over them, so the last bits of a training depend on how many there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lmsearch.errors import ConfigError, short
from lmsearch.plain import plain_numbers


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def using_threads(number: int | None) -> Iterator[None]:
    """Use so many threads inside the block; None leaves PyTorch's own choice.

    Raises ConfigError for another value, and for more than there are cores for this process.
    """
    if number is None:
        yield
        return
    number = plain_numbers(number)
    if type(number) is not int or not 1 <= number <= cores():
        raise ConfigError(f"threads={short(number)} is not accepted; this process may use 1 to {cores()}")
    with exactly(number):
        yield


@contextmanager
def exactly(number: int) -> Iterator[None]:
    """Let PyTorch and the kernels use so many threads inside the block, however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
