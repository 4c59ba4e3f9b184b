"""How long a network takes to answer a batch: each call timed by itself, after calls that are not counted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmsearch.data import DataInfo
from lmsearch.engine.threads import exactly
from lmsearch.export.program import example
from lmsearch.export.variants import Answering

WARM = 3  # calls before those that count


@dataclass(frozen=True)
class Latency:
    """Seconds of a call with a batch of images: the least, the median and the standard deviation of `repeats` calls."""

    variant: str
    batch: int
    threads: int
    repeats: int
    min_s: float
    median_s: float
    std_s: float


@torch.no_grad()
def seconds_of(answers: Callable[[Tensor], Tensor], images: Tensor, *, repeats: int) -> list[float]:
    """Return the seconds of each of `repeats` calls."""
    for _ in range(WARM):
        answers(images)
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        answers(images)
        found.append(time.perf_counter() - start)
    return found


def latencies(
    name: str, answering: Answering, info: DataInfo, *, batches: Sequence[int], threads: Sequence[int], repeats: int
) -> Iterable[Latency]:
    """Yield the latency of a variant for every number of threads and every batch."""
    for number in threads:
        with exactly(number):
            answering.reopen()
            for batch in batches:
                seconds = seconds_of(answering, example(info, batch, info.img_size), repeats=repeats)
                spread = statistics.stdev(seconds) if repeats > 1 else 0.0
                yield Latency(name, batch, number, repeats, min(seconds), statistics.median(seconds), spread)
