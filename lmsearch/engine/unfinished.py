"""Trainings that are parts of a larger task, kept while they run, so that a task that was stopped goes on inside of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lmsearch.engine.checkpoint import ModelSpec, load_checkpoint
from lmsearch.engine.digest import digest_of
from lmsearch.engine.recipe import Recipe
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.state import BEGINNING, Keeping, Position, RunState, Stateful
from lmsearch.engine.train import Trainer
from lmsearch.errors import CheckpointError

FOLDER = "parts"  # in that of a run
LETTERS = 16  # of a digest in a name
log = logging.getLogger(__name__)


class PartState(RunState):
    """A state that is written when the time between two saves is up or a signal comes; the end of an epoch is no reason.

    Many brief trainings then cost no more than one long one. Without such a time every end of an epoch is one. A training that
    may go back (`always`) needs all that it was to keep.
    """

    always = False
    reached = BEGINNING  # the position that it was to keep last

    def save(self, position: Position) -> None:
        """Note that `position` is reached, and write it where it is time for that."""
        self.reached = position
        if self.always or self.keeping.every_s is None or self.late:
            self.write()

    def stops(self, *, asked: bool) -> bool:
        """Tell whether this process was asked to stop; what is reached is written then."""
        if asked:
            self.write()
        return super().stops(asked=asked)

    def write(self) -> None:
        """Write what is reached, unless it is written already."""
        if self.stored != self.reached:
            super().save(self.reached)

    @contextmanager
    def written_if_stopped(self) -> Iterator[None]:
        """Write what is reached where a signal ends the block, which may not train."""
        try:
            yield
        except KeyboardInterrupt:
            self.write()
            raise


@dataclass(frozen=True)
class Unfinished:
    """Where the trainings of a task, or of one part of it, are kept until it is done: a file each in `folder`.

    `run` is a digest of what the task is, every `every_s` seconds they are saved (None: at the ends of epochs).
    """

    folder: RunDir
    run: str
    every_s: float | None = None

    @classmethod
    def of(cls, run_dir: RunDir, run: str, *, every_s: float | None) -> Unfinished:
        """Return where the parts of the run in a folder are kept."""
        return cls(run_dir.inside(FOLDER), run, every_s)

    def inside(self, part: object) -> Unfinished:
        """Return where one part, told as plain values, keeps its own."""
        return replace(self, folder=self.folder.inside(digest_of(part)[:LETTERS]))

    def training(
        self, trainer: Trainer, spec: ModelSpec, recipe: Recipe, *, more: Mapping[str, Stateful] | None = None
    ) -> tuple[PartState, Position]:
        """Return the state of a training, loaded where it was begun, and its position; `more` are parts beside the trainer's.

        One that cannot be read is told of, and the training begins anew. Raises CheckpointError for one that cannot be continued.
        """
        digest = digest_of([self.run, asdict(spec), asdict(recipe), trainer.seed])
        file = f"{digest[:LETTERS]}.pt"
        self._drop_useless(file, digest)
        self.folder.make()
        parts = trainer.parts() | dict(more or {})
        state = PartState(self.folder, parts, spec=spec, run=digest, file=file, keeping=Keeping(self.every_s))
        state.always = trainer.skips.answer.goes_back
        try:
            state.reached = state.restore()
        except CheckpointError as error:
            raise CheckpointError(f"{error}; without this file the training begins anew") from error
        return state, state.reached

    def seconds(self) -> float:
        """Return how long the trainings that are kept have taken."""
        return sum(float(_read(path).get("train_s") or 0.0) for path in self.folder.path.rglob("*.pt"))

    def remove(self) -> None:
        """Delete all that is kept, which nobody may be writing to."""
        self.folder.clear()

    def _drop_useless(self, file: str, digest: str) -> None:
        """Delete a file that cannot be read, which is told of, or that is of another training."""
        path = self.folder / file
        if path.is_file() and _read(path).get("digest") != digest:
            self.folder.remove(file)


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a state, nothing where it cannot be read, which is told of."""
    try:
        return load_checkpoint(path)
    except CheckpointError as error:
        log.warning("%s; what it held is done again", error)
        return {}
