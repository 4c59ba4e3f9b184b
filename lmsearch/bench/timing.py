"""Paired timing: several functions take turns within one process, and are compared round by round."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

SLOW_S = 1.0


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of several measurements of one thing."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Measured:
    """How one function did: seconds of a call, and how many times longer it takes than the first function, per round."""

    seconds: Spread
    times_first: Spread


def paired(functions: Mapping[str, Callable[[], object]], *, repeats: int, min_sample_s: float = 0.05) -> dict[str, Measured]:
    """Time the functions in `repeats` rounds; in each round every one runs once, in turns forwards and backwards.

    One sample is the mean of as many calls as fill `min_sample_s` seconds. A ratio is taken within a round, so that a
    machine that slows down for a while slows both sides. The first function is what the others are compared with.
    """
    calls = {name: _calls(function, min_sample_s) for name, function in functions.items()}
    samples: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    with _only_new_garbage():
        for turn in range(repeats):
            for name in names if turn % 2 == 0 else names[::-1]:
                gc.collect()
                samples[name].append(_seconds(functions[name], calls[name]))
    first = samples[names[0]]
    return {
        name: Measured(Spread.of(own), Spread.of([a / b for a, b in zip(own, first, strict=True)]))
        for name, own in samples.items()
    }


@contextmanager
def _only_new_garbage() -> Iterator[None]:
    """Keep what is there by now out of garbage collection, which would walk all of it before every sample."""
    before = gc.get_freeze_count()
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if not before:
            gc.unfreeze()


def _calls(function: Callable[[], object], min_sample_s: float) -> int:
    """Return how many calls fill a sample: 1 for a slow function, else from a second, warm call."""
    if _seconds(function, 1) > SLOW_S:
        return 1
    return max(1, math.ceil(min_sample_s / _seconds(function, 1)))


def _seconds(function: Callable[[], object], calls: int) -> float:
    """Return the mean seconds of a call, waiting for the GPU where there is one."""
    _wait()
    start = time.perf_counter()
    for _ in range(calls):
        function()
    _wait()
    return (time.perf_counter() - start) / calls


def _wait() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def without_gradients(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Return `function` run without recording anything for a backward pass."""
    return torch.no_grad()(function)


def with_gradients(function: Callable[[], Tensor], leaves: Sequence[Tensor]) -> Callable[[], tuple[Tensor, ...]]:
    """Return the forward and backward pass: `function()` and the gradients of `leaves` for a fixed random weighting."""
    with torch.no_grad():
        y = function()
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y)
    return lambda: torch.autograd.grad(function(), leaves, weights)
