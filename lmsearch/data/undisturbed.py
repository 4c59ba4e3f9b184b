"""Processes that read images leave signals to the process that started them, and end with it.

A cluster, `timeout` and a keyboard tell all processes of a group; a run that saves its step needs its images until then.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

from lmsearch.interrupts import SIGNALS

LOOK_S = 1.0  # seconds between two looks whether the process that started this one is there
CAN_TELL = sys.platform == "linux"  # who has sent a signal


@contextmanager
def signals_held(held: Collection[int]) -> Iterator[None]:
    """Hold signals back from this thread inside the block; a process that it starts there begins with them held."""
    resource_tracker.ensure_running()  # else it is started inside, and SIGINT let through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:  # a signal that comes before the mask is there may raise
        signal.pthread_sigmask(signal.SIG_BLOCK, held)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals(number: int) -> None:
    """Hold signals in this process, worker `number` of a loader, for good, and end it where the one that started it says so.

    PyTorch and Python say so by SIGTERM, and wait: a process that ignored it would keep them from ending.
    """
    if CAN_TELL:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(above: int) -> None:
    """End this process once `above`, its parent, is gone, or who started it has sent a signal; drop signals of others."""
    starter = multiprocessing.parent_process()
    while os.getppid() == above:
        told = signal.sigtimedwait(SIGNALS, LOOK_S)
        if told is not None and starter is not None and told.si_pid == starter.pid:
            break
    os._exit(0)
