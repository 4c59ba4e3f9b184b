"""The epoch loop: every training of the product runs in here, whatever it trains and whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Protocol

from lmsearch.context import setting
from lmsearch.data.info import Loader
from lmsearch.engine.objectives import Scores
from lmsearch.engine.state import BEGINNING, Position
from lmsearch.engine.train import Trainer, check_so_far, train_one_epoch
from lmsearch.interrupts import Stop, held_signals

StepObserver = Callable[[int, int, Scores], None]  # (epoch, step, scores of the step)
_OBSERVER: ContextVar[StepObserver | None] = ContextVar("observer of steps", default=None)


class Saved(Protocol):
    """Where a run is kept."""

    def save(self, position: Position) -> None:
        """Keep all that the next step starts from."""

    def due(self, *, asked: bool) -> bool:
        """Tell, alike in all processes, whether to save after this step; `asked`: this process was asked to stop."""

    def stops(self, *, asked: bool) -> bool:
        """Tell, alike in all processes, whether one of them was asked to stop."""


def observing_steps(observer: StepObserver) -> AbstractContextManager[None]:
    """Call observer(epoch, step, scores) after every training step inside the block; it may stop the run by raising."""
    return setting(_OBSERVER, observer)


def run_epochs(
    trainer: Trainer,
    loader: Loader,
    *,
    epochs: int,
    start: Position = BEGINNING,
    on_step: Callable[[int, Scores], None] | None = None,
    on_epoch: Callable[[int, Scores], None] | None = None,
    state: Saved | None = None,
) -> None:
    """Train over `loader` from `start` up to so many `epochs`.

    `on_step(epoch, scores)` follows every step and `on_epoch(epoch, scores)` every epoch, with the scores of all samples seen.
    What they raise ends the run. `state` is saved after every epoch, `on_epoch` included, and after a step where that is due. A
    signal that comes between two of these has the step saved, and then ends the run.
    Raises Stopped for a signal, and TrainingDiverged where losses or weights do not stay finite; nothing of that is saved.
    """
    observer = _OBSERVER.get()
    with held_signals() if state is not None else nullcontext(Stop()) as stop:
        for epoch in range(start.epoch, epochs):

            def follow(index: int, scores: Scores, epoch: int = epoch) -> None:
                if on_step is not None:
                    on_step(epoch, scores)
                if observer is not None:
                    observer(epoch, index, scores)
                if state is not None and state.due(asked=stop.asked):
                    check_so_far(trainer, epoch=epoch)
                    keep(state, Position(epoch, index + 1), stop)

            done = start.step if epoch == start.epoch else 0
            seen = train_one_epoch(trainer, loader, epoch=epoch, on_step=follow, first_step=done)
            if on_epoch is not None:
                on_epoch(epoch, seen)
            if state is not None:
                keep(state, Position(epoch + 1), stop)


def keep(state: Saved, position: Position, stop: Stop) -> None:
    """Save the state, and end the run where a signal has asked for that."""
    state.save(position)
    if state.stops(asked=stop.asked):
        stop.end()
