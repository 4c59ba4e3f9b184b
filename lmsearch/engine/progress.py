"""The progress line of long work: what it does, how fast, and the time left, in a terminal or as plain log lines.

One line is shown at a time. Evaluations tell it of their images by `evaluated`, wherever they run inside its block. Images are
those of all processes.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Self

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.progress_bar import ProgressBar

from lmsearch.context import QUIET, VERBOSE
from lmsearch.engine.memory import peak_bytes
from lmsearch.engine.objectives import Scores
from lmsearch.words import first_of

log = logging.getLogger(__name__)
REFRESH_S = 0.5  # terminal
LOG_EVERY_S, LOG_OFTEN_S = 10.0, 1.0  # plain text; with verbose=true
SHOWN_LAYERS = 6  # whose best directions stand in a line


class Bars(BarColumn):
    """Bars, but for lines that only tell something."""

    def render(self, task: Task) -> ProgressBar:
        """Return the bar of a line, of no width where it has none."""
        bar = super().render(task)
        if task.fields.get("bare"):
            bar.width = 1
            bar.pulse, bar.total, bar.completed = False, 1.0, 0.0
        return bar


class Shown:
    """One line of progress; use as a context manager. `total` None: how much there is to do is not known."""

    def __init__(self, title: str, *, total: float | None, done: int = 0) -> None:
        self.title, self.total, self.done, self.first = title, total, done, done
        self.terminal, self.quiet = sys.stderr.isatty(), QUIET.get() or not log.isEnabledFor(logging.INFO)
        self.every_s = REFRESH_S if self.terminal else LOG_OFTEN_S if VERBOSE.get() else LOG_EVERY_S
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), Bars(), TaskProgressColumn()]
        columns.append(TextColumn("{task.fields[text]}"))
        self.bar = Progress(*columns, console=Console(stderr=True), disable=self.quiet or not self.terminal, transient=True)
        self.task = self.bar.add_task(title, total=total, completed=done, text="")
        self.outer: Token[Shown | None] | None = None

    def __enter__(self) -> Self:
        self.start = self.shown = time.perf_counter()
        self.outer = CURRENT.set(self)
        try:
            self.bar.start()
        except OSError:  # of a terminal that was closed
            self.bar.disable = True
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):  # the terminal may be closed by now, which is no reason to end otherwise than without it
            self.bar.stop()
        if self.outer is not None:
            CURRENT.reset(self.outer)

    def evaluated(self, images: int) -> None:
        """Count images that went through a network outside training."""

    def due(self) -> bool:
        """Tell whether it is time to show something, and take it as shown."""
        now = time.perf_counter()
        if self.quiet or now - self.shown < self.every_s:
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
        elif not self.quiet:
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


def memory() -> str:
    """Return the most memory that this process has held: of the GPU where it uses one."""
    if torch.cuda.is_initialized():
        return f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB of the GPU"
    return f"{peak_bytes() / 1e9:.1f} GB"


class TrainingProgress(Shown):
    """Counts the steps of a whole run; call `step` after every training step, and `best` with what is best so far.

    In a terminal there are two more lines below its bar where `epochs` says how many there are: the epoch, with a bar of its
    steps, and what is best so far.

    `metric` is what the scores of a step are called ("": it has none). `later` is what comes after the steps, in the time of so
    many of them: the time left includes it. Of so many `processes` each has as many images of a step as this one.
    """

    def __init__(
        self,
        title: str,
        *,
        total_steps: int,
        done_steps: int = 0,
        metric: str = "accuracy",
        later: float = 0.0,
        epochs: int | None = None,
        processes: int = 1,
    ) -> None:
        super().__init__(title, total=total_steps, done=done_steps)
        self.processes = processes
        self.metric, self.later, self.epochs, self.images, self.held = metric, later, epochs, 0, 0
        self.epoch_task = self.best_task = None
        if epochs is not None:
            self.epoch_task = self.bar.add_task("  epoch", total=max(1, total_steps // epochs), text="")
            self.best_task = self.bar.add_task("", total=None, text="", visible=False, bare=True)

    def step(self, epoch: int, scores: Scores) -> None:
        """Count one step; shows loss and score at intervals only, since reading them waits for the device."""
        self.done, self.held = self.done + 1, 0
        self.images += len(scores.losses) * self.processes
        if not self.due() and self.done != self.total:
            return
        speed = f"{self.images / (time.perf_counter() - self.start):.0f} images/s"
        score = f"{self.metric} {scores.score:.3f}  " if self.metric else ""
        told = f"loss {scores.loss:.3f}  {score}".rstrip()
        pace = f"{speed}  {memory()}{self.left(self.later)}"
        if self.terminal and self.epoch_task is not None and self.epochs is not None:
            length = max(1, int(self.total or 0) // self.epochs)
            begun = f"  epoch {epoch + 1}/{self.epochs}"
            self.bar.update(self.epoch_task, description=begun, completed=self.done - epoch * length, text=told)
            self.tell(pace)
        else:
            of = "" if self.epochs is None else f"/{self.epochs}"
            step = "" if self.terminal else f"step {self.done:.0f}/{self.total:.0f}  "
            self.tell(f"{step}epoch {epoch + 1}{of}  {told}  {pace}")

    def best(self, choice: Mapping[str, Sequence[str]]) -> None:
        """Show the directions that are best so far, by layer."""
        told = first_of([f"{layer}: {' '.join(names)}" for layer, names in choice.items()], SHOWN_LAYERS, between="  |  ")
        if self.terminal and self.best_task is not None:
            self.bar.update(self.best_task, description="  best so far", text=told, visible=True)
        elif not self.terminal and not self.quiet:
            log.info("%s  best so far  %s", self.title, told)

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
