"""What a run needs to go on bit for bit: named parts and a position, kept in one file."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from lmsearch.engine.checkpoint import CHECKPOINT, ModelSpec, load_checkpoint, save_checkpoint
from lmsearch.engine.digest import digest_of
from lmsearch.engine.finite import unfinite_weights
from lmsearch.engine.optim import load_optimizer
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.stored import check_kinds, needed
from lmsearch.errors import CheckpointError

LATER = ("best", "seen", "policy", "cost", "skips")  # parts that version 0.1.0 did not keep
AGREE_EVERY, SLOW_S = 4, 1.0  # steps, of several processes; seconds of a step from which on they agree after every one
log = logging.getLogger(__name__)


class Stateful(Protocol):
    """A part of a run: what it remembers as tensors and plain values."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the part remembers."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Take over what `state_dict` returned."""


class Position(NamedTuple):
    """How far a run is: whole epochs done, and steps done of the next one."""

    epoch: int = 0
    step: int = 0

    def steps(self, per_epoch: int) -> int:
        """Return all steps done."""
        return self.epoch * per_epoch + self.step


BEGINNING = Position()


@dataclass(frozen=True)
class Keeping:
    """How often a run is saved between the ends of its epochs (None: not there), and how many of the last states are kept."""

    every_s: float | None = None
    number: int = 1


class RunState:
    """The parts of a run by name: weights, optimizers, averages, loss scale. `save` writes them to `file`, `restore` loads them.

    `spec` describes the network and `run` is the digest of the run: both are compared before anything is loaded.
    `extra` (plain values) is kept for those who read the file later. `train_s` is how many seconds the saved steps took,
    over all calls. Older states stay beside `file`, as <file>-<epoch>-<step>.pt, of which `keeping` says how many.
    """

    def __init__(
        self,
        run_dir: RunDir,
        parts: Mapping[str, Stateful],
        *,
        spec: ModelSpec,
        run: str,
        extra: dict[str, Any] | None = None,
        file: str = CHECKPOINT,
        keeping: Keeping = Keeping(),
    ) -> None:
        self.run_dir, self.file, self.path, self.keeping = run_dir, file, run_dir / file, keeping
        self.parts, self.spec, self.run, self.extra = dict(parts), spec, run, extra or {}
        self.train_s, self.since = 0.0, time.perf_counter()
        self.stored: Position | None = None  # of the file, where it can be read
        self.steps, self.agree_after = 0, 1  # since processes agreed whether to save, and after how many they do so again
        self.agreed = time.perf_counter()

    def due(self, *, asked: bool) -> bool:
        """Tell, alike in all processes, whether to save after this step; `asked`: this process was asked to stop.

        Several processes agree on it every AGREE_EVERY steps, and after every step once one took SLOW_S.
        """
        world, now, self.steps = self.run_dir.world, time.perf_counter(), self.steps + 1
        if world.size == 1:
            return asked or self.late
        if self.steps < self.agree_after:
            return False
        slow = now - self.agreed >= SLOW_S * self.steps
        wanted, slow = world.total(torch.tensor([int(asked or self.late), int(slow)])).tolist()
        self.steps, self.agreed, self.agree_after = 0, now, 1 if slow else AGREE_EVERY
        return bool(wanted)

    @property
    def late(self) -> bool:
        """Whether as much time has passed in this process since the last save as may lie between two."""
        return self.keeping.every_s is not None and time.perf_counter() - self.since >= self.keeping.every_s

    def stops(self, *, asked: bool) -> bool:
        """Tell, alike in all processes, whether one of them was asked to stop."""
        return self.run_dir.world.any(asked)

    def save(self, position: Position) -> None:
        """Write the state at `position`, and keep the one before beside it where several are kept."""
        now = time.perf_counter()
        self.train_s, self.since = self.train_s + now - self.since, now
        state = {"train_s": self.train_s} | {name: part.state_dict() for name, part in self.parts.items()}
        head = {"spec": asdict(self.spec), "digest": self.run, "epoch": position.epoch, "step": position.step}
        if self.stored is not None and self.stored != position and self.keeping.number > 1:
            self.run_dir.keep_copy(self.file, older_name(self.file, self.stored))
        save_checkpoint(self.run_dir, head | state | self.extra, file=self.file)
        self.stored = position
        for _, name in self.older()[max(self.keeping.number - 1, 0) :]:
            self.run_dir.remove(name)

    def go_back(self) -> Position:
        """Load the state that was saved last and return its position; raise CheckpointError where it cannot be read."""
        position = self._go_on_from([self.file])
        self.run_dir.world.wait()  # until all have read: the main process writes it anew
        return position

    def note(self, name: str, values: object) -> None:
        """Write plain values into a file for people to read, named after the state where that is not the run's own."""
        self.run_dir.write_json(name if self.file == CHECKPOINT else f"{self.path.stem}-{name}", values)

    def older(self) -> list[tuple[Position, str]]:
        """Return positions and names of the older states, the newest first."""
        return sorted(older_states(self.run_dir.path, self.file), reverse=True)

    def restore(self) -> Position:
        """Load the newest state that can be read, if there is one, and return its position; say so where it is not the last.

        Raises CheckpointError where none of several can be read, where it is of another run or cannot be continued, and where
        processes have read other states.
        """
        self.since = time.perf_counter()
        names = [self.file] if self.path.exists() else []
        return self._go_on_from([*names, *(name for _, name in self.older())])

    def _go_on_from(self, names: Sequence[str]) -> Position:
        """Load the first file that can be read, the same in all processes, and return its position; as `restore`."""
        failure: CheckpointError | None = None
        found: tuple[str, dict[str, Any]] | None = None
        for name in names:
            try:
                found = name, load_checkpoint(self.run_dir / name)
                break
            except CheckpointError as error:
                failure = failure or error
        self._check_alike(found)
        if found is None and failure is not None:
            raise failure
        if found is None:
            return BEGINNING
        name, state = found
        if name != self.file:
            log.warning("%s; the run goes on from %s", failure or f"{self.path} is not there", self.run_dir / name)
        return self._load(state, name)

    def _check_alike(self, found: tuple[str, dict[str, Any]] | None) -> None:
        """Raise CheckpointError unless all processes have read the same: they would average gradients of different weights."""
        if self.run_dir.world.size == 1:
            return
        mine = (f"{found[0]} ({_place(found[1])})", digest_of(found[1])) if found is not None else ("the beginning", "")
        told = self.run_dir.world.gather_each((mine,))
        if different := [rank for rank, its in enumerate(told) if its != told[0]]:
            raise CheckpointError(
                f"{self.path}: process 0 would go on from {told[0][0]}, process {different[0]} from {told[different[0]][0]};"
                " see that every machine can read the same files there, and start again"
            )

    def _load(self, state: dict[str, Any], name: str) -> Position:
        """Load the content of a file into the parts, and return its position."""
        path = self.run_dir / name
        self._check(state, path)
        for part_name, part in self.parts.items():
            if part_name in LATER and part_name not in state:
                continue
            try:
                load_part(part, state[part_name])
            except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise CheckpointError(f"{path}: not a state that this run can continue from ({part_name}: {error})") from error
        self.train_s = state.get("train_s") or 0.0
        position = Position(needed(state, "epoch", source=str(path)), state.get("step") or 0)  # of 0.1.0: whole epochs
        self.stored = position if name == self.file else None
        return position

    def _check(self, state: dict[str, Any], path: Path) -> None:
        """Raise CheckpointError unless a state is of this run, and finite."""
        if not ModelSpec.from_dict(state.get("spec"), source=str(path)).agrees_with(self.spec):
            raise CheckpointError(f"{path}: a checkpoint of another model or other directions than this run's")
        weights = needed(state, "model", source=str(path))
        check_kinds(self.parts["model"].state_dict(), weights, source=str(path))
        if (bad := unfinite_weights(weights)) is not None:
            raise CheckpointError(
                f"{path}: its weights are not finite ({bad}); start over with overwrite=true and a lower optim.lr"
            )
        if state.get("digest", self.run) != self.run:  # those of version 0.1.0 say it for searches only
            raise CheckpointError(
                f"{path}: a checkpoint of another run (another seed or other settings); choose another run_dir=,"
                " or overwrite=true to start over"
            )


def _place(state: Mapping[str, Any]) -> str:
    """Return how far a saved state is, for a message."""
    return f"epoch {state.get('epoch')}, step {state.get('step') or 0}"


def older_name(file: str, position: Position) -> str:
    """Return the name of an older state: checkpoint-<epoch>-<step>.pt."""
    return f"{file.removesuffix('.pt')}-{position.epoch}-{position.step}.pt"


def older_states(folder: Path, file: str = CHECKPOINT) -> list[tuple[Position, str]]:
    """Return positions and names of the older states in a folder."""
    pattern = re.compile(re.escape(file.removesuffix(".pt")) + r"-(\d{1,9})-(\d{1,12})\.pt")
    found = [(pattern.fullmatch(path.name), path.name) for path in folder.glob("*.pt")]
    return [(Position(int(match[1]), int(match[2])), name) for match, name in found if match]


def load_part(part: Stateful, state: dict[str, Any]) -> None:
    """Load one part; an optimizer keeps how it computes its steps. Values of another kind of number are refused."""
    if isinstance(part, torch.optim.Optimizer):
        load_optimizer(part, state)
        return
    if isinstance(part, nn.Module):
        check_kinds(part.state_dict(), state, source="its weights")
    part.load_state_dict(state)
