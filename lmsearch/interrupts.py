"""Signals that end a process: at once while it starts, after the step while it trains. It comes first, so it imports little.

Interrupts (Ctrl-C) end with code 130. TERM, USR1 and HUP, with which a cluster or a terminal takes its machine back, end with
75: what was done is kept, so start the same command again.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any

INTERRUPTED = 130  # exit code
SAVED = 75  # exit code: EX_TEMPFAIL of sysexits.h, which means "try again"
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))
TOLD = b"\nlmsearch: stops after this step and keeps it; Ctrl-C again stops at once\n"


class Stopped(KeyboardInterrupt):
    """A signal ended the run."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def name(self) -> str:
        """The name of the signal."""
        return signal.Signals(self.number).name

    @property
    def code(self) -> int:
        """The exit code of the process."""
        return INTERRUPTED if self.number == signal.SIGINT else SAVED


@dataclass
class Stop:
    """What signals ask of a run: at once, or, while they are `held`, where the run asks whether one came."""

    held: bool = False
    number: int | None = None  # of the signal that came while they were held

    def answer(self, number: int, frame: FrameType | None) -> None:
        """Answer a signal; an interrupt ends the run at once where another signal has asked for that before."""
        if not self.held or (self.number is not None and number == signal.SIGINT):
            raise Stopped(number)
        if self.number is None:
            self.number = number
            with suppress(OSError):  # nobody reads it any more: no reason to lose the step
                os.write(2, TOLD)

    @property
    def asked(self) -> bool:
        """Whether a signal has come while they were held."""
        return self.number is not None

    def end(self) -> None:
        """Raise Stopped, by the signal that came here or, where it came to another process, as by SIGTERM."""
        raise Stopped(signal.SIGTERM if self.number is None else self.number)


_STOP: ContextVar[Stop | None] = ContextVar("what signals ask for", default=None)


def stop_asked() -> bool:
    """Tell whether a signal has come while signals are held, so that this is no time to wait long."""
    stop = _STOP.get()
    return stop is not None and stop.asked


def quit_at_once(number: int, *_: object) -> None:
    """Answer a signal while modules are imported, where nothing can be lost: their native code may not raise it on."""
    stopped = Stopped(number)
    try:
        told = "interrupted" if stopped.code == INTERRUPTED else f"stopped by {stopped.name}; give the same command again"
        os.write(2, f"\nlmsearch: {told}\n".encode())
    finally:
        os._exit(stopped.code)


def quitting_at_once() -> None:
    """Answer signals so from now on, but those that are ignored or answered already."""
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, quit_at_once)


def as_at_first(number: int) -> Any:
    """Return how Python answers a signal."""
    return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL


@contextmanager
def answering_signals() -> Iterator[None]:
    """Inside the block a signal raises Stopped, at once or where signals are held; those that are ignored stay ignored.

    Outside the main thread, which alone is told of signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop, before = Stop(), {number: signal.getsignal(number) for number in SIGNALS}
    mine = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    token = _STOP.set(stop)
    for number in mine:
        signal.signal(number, stop.answer)
    try:
        yield
    finally:
        _STOP.reset(token)
        for number, old in mine.items():
            signal.signal(number, old if old is not quit_at_once else as_at_first(number))


@contextmanager
def held_signals() -> Iterator[Stop]:
    """Hold signals back inside the block, but for a second interrupt; what it gives tells whether one came.

    One that nobody has asked for by the end of the block is answered there.
    """
    stop = _STOP.get() or Stop()
    outer, stop.held = stop.held, True
    try:
        yield stop
    finally:
        stop.held = outer
    if stop.asked and not outer:
        stop.end()
