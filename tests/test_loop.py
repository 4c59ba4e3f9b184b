"""The epoch loop: the only place that trains epoch after epoch, and the seam by which runs are watched and stopped."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest

import lmsearch
from lmsearch.engine.loop import observing_steps, run_epochs
from lmsearch.engine.nonfinite import Skips
from lmsearch.engine.state import Position

PACKAGE = Path(lmsearch.__file__).parent
PLAIN = SimpleNamespace(skips=Skips())  # as much of a trainer as the loop itself looks at


def test_nothing_else_loops_over_epochs_of_training() -> None:
    callers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "train_one_epoch"
    }
    assert callers == {"engine/loop.py"}


class State:
    """Counts what is saved."""

    def __init__(self) -> None:
        self.saved: list[Position] = []

    def save(self, position: Position) -> None:
        self.saved.append(position)

    def due(self, *, asked: bool) -> bool:
        return asked

    def stops(self, *, asked: bool) -> bool:
        return asked


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Stand in for the training of an epoch: two steps whose scores are their numbers."""
    happened: list[tuple] = []

    def epoch_of_two_steps(trainer: object, loader: object, *, epoch: int, on_step, first_step: int) -> str:
        for index in range(first_step, 2):
            on_step(index, f"scores {epoch}.{index}")
        return f"epoch {epoch}"

    monkeypatch.setattr("lmsearch.engine.loop.train_one_epoch", epoch_of_two_steps)
    return happened


def test_steps_and_epochs_are_told_in_order_and_saved_last(told: list[tuple]) -> None:
    state = State()
    run_epochs(
        PLAIN, None, start=Position(1), epochs=3, state=state,
        on_step=lambda epoch, scores: told.append(("step", epoch, scores)),
        on_epoch=lambda epoch, seen: told.append(("epoch", epoch, seen, list(state.saved))),
    )  # fmt: skip
    assert told == [
        ("step", 1, "scores 1.0"), ("step", 1, "scores 1.1"), ("epoch", 1, "epoch 1", []),
        ("step", 2, "scores 2.0"), ("step", 2, "scores 2.1"), ("epoch", 2, "epoch 2", [Position(2)]),
    ]  # fmt: skip
    assert state.saved == [Position(2), Position(3)]


def test_a_run_goes_on_inside_an_epoch(told: list[tuple]) -> None:
    run_epochs(PLAIN, None, start=Position(1, step=1), epochs=3, on_step=lambda epoch, scores: told.append(scores))
    assert told == ["scores 1.1", "scores 2.0", "scores 2.1"]


def test_an_epoch_that_an_observer_stops_is_not_saved(told: list[tuple]) -> None:
    state = State()

    def stop(epoch: int, step: int, scores: object) -> None:
        told.append((epoch, step))
        if (epoch, step) == (1, 0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), observing_steps(stop):
        run_epochs(PLAIN, None, epochs=3, state=state)
    assert told == [(0, 0), (0, 1), (1, 0)] and state.saved == [Position(1)]
    run_epochs(PLAIN, None, epochs=1)
    assert len(told) == 3, "nobody watches after the block"
