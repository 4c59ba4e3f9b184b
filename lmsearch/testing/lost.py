"""The work that disturbances cost a training: the steps that it had done and did again."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from lmsearch.engine.state import AGREE_EVERY, SLOW_S
from lmsearch.testing.recorded import Step


@dataclass(frozen=True)
class Pace:
    """What a step of the undisturbed run takes, how often the run is saved, both in seconds, and its processes."""

    step_s: float
    save_every_s: float
    processes: int = 1

    @property
    def most_s(self) -> float:
        """Seconds of training that a kill may cost: those between two saves, and the steps in which a save is not yet due."""
        return self.save_every_s + self.step_s * self.steps

    @property
    def steps(self) -> int:
        """Steps after which a save that is due is made."""
        return 1 if self.processes == 1 or self.step_s >= SLOW_S else AGREE_EVERY

    def told(self, lost: Sequence[int]) -> str:
        """Return the largest loss beside what is allowed, as text."""
        most = max(lost, default=0)
        allowed = f"save_every_s={self.save_every_s:g} and {'one step' if self.steps == 1 else f'{self.steps} steps'}"
        return (
            f"work lost: at most {most} steps of {self.step_s:.3f} s = {most * self.step_s:.2f} s a time; {allowed} allow"
            f" {self.most_s:.2f} s"
        )


def pace_of(run_dir: Path, steps: Sequence[Step], *, processes: int) -> Pace | None:
    """Return the pace of an undisturbed run, or None where its steps cannot be told."""
    between = [later.at - step.at for step, later in zip(steps, steps[1:], strict=False)]
    if not between:
        return None
    settings = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    every = settings.get("save_every_s")
    return Pace(statistics.median(between), float("inf") if every is None else float(every), processes)


def lost_steps(steps: Sequence[Step], done: Sequence[int]) -> list[int]:
    """Return how many of the recorded steps were done again because of each disturbance; `done`: how many were there by then.

    Of several disturbances without a step between them the first has cost what was lost.
    """
    found = []
    for before, earlier in zip(done, [None, *done], strict=False):
        again = steps[before].word if before < len(steps) and before != earlier else None
        same = [place for place, step in enumerate(steps[:before]) if step.word == again]
        found.append(before - same[-1] if same else 0)
    return found
