"""The progress line of a long run: loss, score, images per second and the time left, in a terminal or as plain log lines."""

from __future__ import annotations

import logging
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from lmsearch.engine.objective import Scores

log = logging.getLogger(__name__)
REFRESH_S = 0.5  # terminal
LOG_EVERY_S = 10.0  # plain text


class TrainingProgress:
    """Counts the steps of a whole run; use as a context manager and call `step` after every training step."""

    def __init__(self, title: str, *, total_steps: int, done_steps: int = 0, metric: str = "accuracy") -> None:
        self.metric, self.title, self.total_steps, self.done = metric, title, total_steps, done_steps
        self.images, self.start, self.shown = 0, time.perf_counter(), 0.0
        self.terminal = sys.stderr.isatty()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=Console(stderr=True), disable=not self.terminal, transient=True)
        self.task = self.bar.add_task(title, total=total_steps, completed=done_steps, text="")
        self.first = done_steps

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.stop()

    def step(self, epoch: int, scores: Scores) -> None:
        """Count one step; shows loss and score at intervals only, since reading them waits for the device."""
        self.done += 1
        self.images += len(scores.losses)
        now = time.perf_counter()
        if now - self.shown < (REFRESH_S if self.terminal else LOG_EVERY_S) and self.done < self.total_steps:
            return
        self.shown = now
        elapsed = now - self.start
        left = elapsed / (self.done - self.first) * (self.total_steps - self.done)
        speed = f"{self.images / elapsed:.0f} images/s"
        text = f"epoch {epoch + 1}  loss {scores.loss:.3f}  {self.metric} {scores.score:.3f}  {speed}"
        if self.terminal:
            self.bar.update(self.task, completed=self.done, text=text)
        else:
            log.info("%s  step %d/%d  %s  %.0f s left", self.title, self.done, self.total_steps, text, left)


class CountProgress:
    """Counts what is done of a known number; use as a context manager and call `advance`."""

    def __init__(self, title: str, *, total: int, unit: str) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, 0
        self.start = self.shown = time.perf_counter()
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
        self.task = self.bar.add_task(title, total=total)

    def __enter__(self) -> CountProgress:
        self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.stop()

    def advance(self, number: int) -> None:
        """Count `number` more; where there is no terminal, log a line at intervals."""
        self.done += number
        self.bar.advance(self.task, number)
        now = time.perf_counter()
        if self.bar.disable and now - self.shown >= LOG_EVERY_S and self.done < self.total:
            self.shown, left = now, (now - self.start) / self.done * (self.total - self.done)
            log.info("%s  %d/%d %s  %.0f s left", self.title, self.done, self.total, self.unit, left)
