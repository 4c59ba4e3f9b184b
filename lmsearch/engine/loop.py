"""The epoch loop: every training of the product runs in here, whatever it trains and whoever watches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Protocol

from lmsearch.context import setting
from lmsearch.data.info import Loader
from lmsearch.engine.divergence import check_so_far
from lmsearch.engine.finite import TrainingDiverged
from lmsearch.engine.nonfinite import FILE, MOST_RETURNS
from lmsearch.engine.objectives import Scores
from lmsearch.engine.state import BEGINNING, Position
from lmsearch.engine.train import Trainer, train_one_epoch
from lmsearch.interrupts import Stop, held_signals

log = logging.getLogger(__name__)
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

    def go_back(self) -> Position:
        """Load what was saved last, and return its position."""

    def note(self, name: str, values: object) -> None:
        """Write plain values into a file for people to read."""


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
    Raises Stopped for a signal, and TrainingDiverged where losses or weights do not stay finite; nothing of that is saved. Where
    the trainer goes back instead, it does so to what was saved last.
    """
    observer = _OBSERVER.get()
    if state is None and trainer.skips.answer.goes_back:
        log.warning("on_nonfinite=rollback finds nothing saved in this training: steps are left out, and too many of them end it")
    with held_signals() if state is not None else nullcontext(Stop()) as stop:

        def follow(index: int, scores: Scores) -> None:
            if on_step is not None:
                on_step(position.epoch, scores)
            if observer is not None:
                observer(position.epoch, index, scores)
            if state is not None and state.due(asked=stop.asked):
                check_so_far(trainer, epoch=position.epoch)
                keep(trainer, state, Position(position.epoch, index + 1), stop)

        position = start
        if state is not None and trainer.skips.answer.goes_back and start.epoch < epochs:
            keep(trainer, state, start, stop)  # so that there is something to go back to
        while position.epoch < epochs:
            try:
                seen = train_one_epoch(trainer, loader, epoch=position.epoch, on_step=follow, first_step=position.step)
                if on_epoch is not None:
                    on_epoch(position.epoch, seen)
            except TrainingDiverged as error:
                position = place_after(error, trainer, state)
            else:
                position = Position(position.epoch + 1)
            if state is not None:
                keep(trainer, state, position, stop)


def place_after(error: TrainingDiverged, trainer: Trainer, state: Saved | None) -> Position:
    """Return where a training that diverged goes on, with lower rates; raise `error` where it does not go back, or too often.

    The samples of its last batch are written down.
    """
    skips = trainer.skips
    if state is not None and (error.spoilt is not None or skips.number):
        state.note(FILE, skips.told() if error.spoilt is None else {"ended": error.spoilt._asdict()})
    if state is None or not skips.answer.goes_back:
        raise error
    if skips.returns >= MOST_RETURNS:
        raise TrainingDiverged(f"{error}; it went back {skips.returns} times, which did not help") from error
    return lowered(trainer, state, error)


def lowered(trainer: Trainer, state: Saved, error: TrainingDiverged) -> Position:
    """Load what was saved last, with lower learning rates, and return its position."""
    known = trainer.skips.state_dict()
    position = state.go_back()
    trainer.skips.go_on_lower(known)
    where = f"epoch {position.epoch + 1}, step {position.step + 1}"
    log.warning("%s. It goes back to %s, with %g of the learning rates", error, where, trainer.skips.rate)
    return position


def keep(trainer: Trainer, state: Saved, position: Position, stop: Stop) -> None:
    """Save the state and what was left out, and end the run where a signal has asked for that."""
    state.save(position)
    if trainer.skips.number:
        state.note(FILE, trainer.skips.told())
    if state.stops(asked=stop.asked):
        stop.end()
