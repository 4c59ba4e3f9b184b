"""Stopping a run inside its training loop, as Ctrl-C or a cluster would."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lmsearch.engine.loop import observing_steps
from lmsearch.engine.objectives import Scores


@contextmanager
def cut_in_epoch(number: int | None) -> Iterator[list[int]]:
    """Give the list of the epochs that begin inside the block, and raise KeyboardInterrupt in the `number`-th of them."""
    begun: list[int] = []

    def watch(epoch: int, step: int, scores: Scores) -> None:
        if step == 0:
            begun.append(epoch)
            if len(begun) == number:
                raise KeyboardInterrupt

    with observing_steps(watch):
        yield begun


@contextmanager
def signalled(number: int, *, after: int) -> Iterator[list[tuple[int, int]]]:
    """Send this process a signal after so many training steps inside the block, and give the list of steps that were done."""
    done: list[tuple[int, int]] = []

    def send(epoch: int, step: int, scores: Scores) -> None:
        done.append((epoch, step))
        if len(done) == after:
            os.kill(os.getpid(), number)

    with observing_steps(send):
        yield done
