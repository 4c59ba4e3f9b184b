"""The progress line of long work: what it does, how fast, and the time left, in a terminal or as plain log lines.

One line is shown at a time. Evaluations tell it of their images by `evaluated`, wherever they run inside its block.
"""

from __future__ import annotations

import logging
import sys
import time
from contextvars import ContextVar, Token
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn

from lmsearch.engine.objectives import Scores

log = logging.getLogger(__name__)
REFRESH_S = 0.5  # terminal
LOG_EVERY_S = 10.0  # plain text


class Shown:
    """One line of progress; use as a context manager. `total` None: how much there is to do is not known."""

    def __init__(self, title: str, *, total: float | None, done: int = 0) -> None:
        self.title, self.total, self.done, self.first = title, total, done, done
        self.terminal = sys.stderr.isatty() and log.isEnabledFor(logging.INFO)
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()]
        columns.append(TextColumn("{task.fields[text]}"))
        self.bar = Progress(*columns, console=Console(stderr=True), disable=not self.terminal, transient=True)
        self.task = self.bar.add_task(title, total=total, completed=done, text="")
        self.outer: Token[Shown | None] | None = None

    def __enter__(self) -> Self:
        self.start = self.shown = time.perf_counter()
        self.outer = CURRENT.set(self)
        self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.stop()
        if self.outer is not None:
            CURRENT.reset(self.outer)

    def evaluated(self, images: int) -> None:
        """Count images that went through a network outside training."""

    def due(self) -> bool:
        """Tell whether it is time to show something, and take it as shown."""
        now = time.perf_counter()
        if now - self.shown < (REFRESH_S if self.terminal else LOG_EVERY_S):
            return False
        self.shown = now
        return True

    def left(self, later: float = 0.0) -> str:
        """Return the time left, of `later` units after the last one as well; empty where it cannot be told."""
        if self.total is None or self.done <= self.first:
            return ""
        seconds = (time.perf_counter() - self.start) / (self.done - self.first) * (max(self.total - self.done, 0) + later)
        return f"  {duration(seconds)} left"

    def tell(self, text: str) -> None:
        """Show a text beside the bar or, where there is no terminal, as a line of the log."""
        if self.terminal:
            self.bar.update(self.task, completed=self.done, text=text)
        else:
            log.info("%s  %s", self.title, text)


CURRENT: ContextVar[Shown | None] = ContextVar("shown", default=None)


def evaluated(images: int) -> None:
    """Tell the progress that is shown, if any, that so many images went through a network outside training."""
    if (shown := CURRENT.get()) is not None:
        shown.evaluated(images)


def duration(seconds: float) -> str:
    """Return a time in the largest unit that gives two figures: 95 s, 12 min, 5.2 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class TrainingProgress(Shown):
    """Counts the steps of a whole run; call `step` after every training step.

    `metric` is what the scores of a step are called ("": it has none). `later` is what comes after the steps, in the time of so
    many of them: the time left includes it.
    """

    def __init__(
        self, title: str, *, total_steps: int, done_steps: int = 0, metric: str = "accuracy", later: float = 0.0
    ) -> None:
        super().__init__(title, total=total_steps, done=done_steps)
        self.metric, self.later, self.images, self.held = metric, later, 0, 0

    def step(self, epoch: int, scores: Scores) -> None:
        """Count one step; shows loss and score at intervals only, since reading them waits for the device."""
        self.done, self.held = self.done + 1, 0
        self.images += len(scores.losses)
        if not self.due() and self.done != self.total:
            return
        speed = f"{self.images / (time.perf_counter() - self.start):.0f} images/s"
        score = f"{self.metric} {scores.score:.3f}  " if self.metric else ""
        text = f"epoch {epoch + 1}  loss {scores.loss:.3f}  {score}{speed}{self.left(self.later)}"
        self.tell(text if self.terminal else f"step {self.done:.0f}/{self.total:.0f}  {text}")

    def evaluated(self, images: int) -> None:
        """Count images of the evaluation between two steps."""
        self.held += images
        if self.due():
            self.tell(f"step {self.done:.0f}/{self.total:.0f}  evaluates, {self.held} images so far")


class CountProgress(Shown):
    """Counts what is done of a known number; call `advance`."""

    def __init__(self, title: str, *, total: int, unit: str) -> None:
        super().__init__(title, total=total)
        self.unit = unit

    def advance(self, number: int) -> None:
        """Count `number` more; shows at intervals."""
        self.done += number
        if self.due() and (self.terminal or self.done < (self.total or 0)):
            self.tell(f"{self.done:.0f}/{self.total:.0f} {self.unit}{self.left()}")


class Phase(Shown):
    """Work that runs networks without training them: counts the images that go through, of about `images` (None: not known)."""

    def __init__(self, title: str, *, images: float | None = None) -> None:
        super().__init__(title, total=images or None)

    def evaluated(self, images: int) -> None:
        """Count images; shows at intervals."""
        self.done += images
        if self.total is not None:
            self.total = max(self.total, self.done)
            self.bar.update(self.task, total=self.total)
        if self.due():
            speed = self.done / (time.perf_counter() - self.start)
            self.tell(f"{self.done:.0f} images through the network  {speed:.0f} images/s{self.left()}")
