"""The epoch loop: every training of the product runs in here, whatever it trains and whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Protocol

from lmsearch.context import setting
from lmsearch.data.info import Loader
from lmsearch.engine.objectives import Scores
from lmsearch.engine.state import BEGINNING, Position
from lmsearch.engine.train import Trainer, train_one_epoch

StepObserver = Callable[[int, int, Scores], None]  # (epoch, step, scores of the step)
_OBSERVER: ContextVar[StepObserver | None] = ContextVar("observer of steps", default=None)


class Saved(Protocol):
    """Where a run is kept."""

    def save(self, position: Position) -> None:
        """Keep all that the next step starts from."""


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
    What they raise ends the run. `state` is saved when an epoch is complete, `on_epoch` included.
    Raises TrainingDiverged where losses or weights do not stay finite; that epoch is not saved.
    """
    observer = _OBSERVER.get()
    for epoch in range(start.epoch, epochs):

        def follow(index: int, scores: Scores, epoch: int = epoch) -> None:
            if on_step is not None:
                on_step(epoch, scores)
            if observer is not None:
                observer(epoch, index, scores)

        done = start.step if epoch == start.epoch else 0
        seen = train_one_epoch(trainer, loader, epoch=epoch, on_step=follow, first_step=done)
        if on_epoch is not None:
            on_epoch(epoch, seen)
        if state is not None:
            state.save(Position(epoch + 1))
