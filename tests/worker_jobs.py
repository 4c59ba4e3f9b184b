"""Jobs for the workers of tests, in a file of their own: each worker imports it, and nothing else of the tests."""

from __future__ import annotations

import os
import signal
import time

import torch

from lmsearch.errors import DataError


def answer(value: int, after_s: float = 0.0) -> tuple[int, int]:
    """Return a value, and with how many threads this process computes."""
    time.sleep(after_s)
    return value, torch.get_num_threads()


def interrupts_are_held() -> bool:
    """Tell whether no interrupt reaches this process."""
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def broken() -> None:
    """Fail as with a user's mistake."""
    raise DataError("no such image")


def killed() -> None:
    """Die as for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
