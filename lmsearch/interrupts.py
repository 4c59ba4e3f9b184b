"""Interrupts while a process starts: answered by leaving at once. Imports next to nothing, since it comes before all else."""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130  # exit code


def quit_at_once(*_: object) -> None:
    """Answer an interrupt while modules are imported, where nothing can be lost: their native code may not raise it on."""
    os.write(2, b"\nlmsearch: interrupted\n")
    os._exit(INTERRUPTED)


def answer_interrupts() -> None:
    """From now on an interrupt raises KeyboardInterrupt, where it would quit at once."""
    if signal.getsignal(signal.SIGINT) is quit_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
