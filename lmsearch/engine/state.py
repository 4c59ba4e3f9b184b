"""What a run needs to go on bit for bit: named parts and a position, kept in one file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from lmsearch.engine.checkpoint import CHECKPOINT, ModelSpec, load_checkpoint, save_checkpoint
from lmsearch.engine.finite import unfinite_weights
from lmsearch.engine.optim import load_optimizer
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.stored import check_kinds, needed
from lmsearch.errors import CheckpointError

LATER = ("best",)  # parts that version 0.1.0 did not keep


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


class RunState:
    """The parts of a run by name: weights, optimizers, averages, loss scale. `save` writes them to `file`, `restore` loads them.

    `spec` describes the network and `run` is the digest of the run: both are compared before anything is loaded.
    `extra` (plain values) is kept for those who read the file later. `train_s` is how many seconds the saved steps took,
    over all calls.
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
    ) -> None:
        self.run_dir, self.file, self.path = run_dir, file, run_dir / file
        self.parts, self.spec, self.run, self.extra = dict(parts), spec, run, extra or {}
        self.train_s, self.since = 0.0, time.perf_counter()

    def save(self, position: Position) -> None:
        """Write the state at `position`."""
        now = time.perf_counter()
        self.train_s, self.since = self.train_s + now - self.since, now
        state = {"train_s": self.train_s} | {name: part.state_dict() for name, part in self.parts.items()}
        head = {"spec": asdict(self.spec), "digest": self.run, "epoch": position.epoch, "step": position.step}
        save_checkpoint(self.run_dir, head | state | self.extra, file=self.file)

    def restore(self) -> Position:
        """Load the state if there is one and return its position.

        Raises CheckpointError where it is of another run or cannot be continued.
        """
        self.since = time.perf_counter()
        if not self.path.exists():
            return BEGINNING
        state = load_checkpoint(self.path)
        self._check(state)
        for name, part in self.parts.items():
            if name in LATER and name not in state:
                continue
            try:
                load_part(part, state[name])
            except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise CheckpointError(f"{self.path}: not a state that this run can continue from ({name}: {error})") from error
        self.train_s = state.get("train_s") or 0.0
        return Position(needed(state, "epoch", source=str(self.path)), state.get("step") or 0)  # of 0.1.0: whole epochs

    def _check(self, state: dict[str, Any]) -> None:
        """Raise CheckpointError unless a state is of this run, and finite."""
        if not ModelSpec.from_dict(state.get("spec"), source=str(self.path)).agrees_with(self.spec):
            raise CheckpointError(f"{self.path}: a checkpoint of another model or other directions than this run's")
        weights = needed(state, "model", source=str(self.path))
        check_kinds(self.parts["model"].state_dict(), weights, source=str(self.path))
        if (bad := unfinite_weights(weights)) is not None:
            raise CheckpointError(
                f"{self.path}: its weights are not finite ({bad}); start over with overwrite=true and a lower optim.lr"
            )
        if state.get("digest", self.run) != self.run:  # those of version 0.1.0 say it for searches only
            raise CheckpointError(
                f"{self.path}: a checkpoint of another run (another seed or other settings); choose another run_dir=,"
                " or overwrite=true to start over"
            )


def load_part(part: Stateful, state: dict[str, Any]) -> None:
    """Load one part; an optimizer keeps how it computes its steps. Values of another kind of number are refused."""
    if isinstance(part, torch.optim.Optimizer):
        load_optimizer(part, state)
        return
    if isinstance(part, nn.Module):
        check_kinds(part.state_dict(), state, source="its weights")
    part.load_state_dict(state)
