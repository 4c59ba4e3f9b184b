"""What an epoch has seen so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.objectives import Scores


@dataclass
class Seen:
    """The scores of the steps that an epoch has done; a part of the training state, since an epoch may be cut."""

    steps: list[Scores] = field(default_factory=list)
    world: World = SINGLE
    samples: dict[int, torch.Tensor] = field(default_factory=dict)  # of the steps that this call did, for error messages

    def add(self, scores: Scores, samples: torch.Tensor) -> None:
        """Add the scores of a step and the numbers of its samples (n,), which are in the same order."""
        self.samples[len(self.steps)] = samples
        self.steps.append(scores)

    def begin(self, done: int) -> None:
        """Begin an epoch of which `done` steps are done; of a state that knows nothing of them, they count as not seen."""
        if done == 0:
            self.steps, self.samples = [], {}

    def take(self) -> list[Scores]:
        """Return the scores of the steps, on the CPU, and forget them."""
        steps, self.steps, self.samples = self.steps, [], {}
        return [step.cpu() for step in steps]

    def state_dict(self) -> dict[str, Any]:
        """Return losses, scores and classes (n,) of the samples of all processes, and how many each step had of them."""
        if not self.steps:
            return {"sizes": []}
        whole = Scores.concatenate(step.cpu() for step in self.steps)
        columns = {"losses": whole.losses, "scores": whole.scores, "classes": whole.classes}
        sizes = [len(step.losses) * self.world.size for step in self.steps]
        return {"sizes": sizes} | {name: self.world.gather(own) for name, own in columns.items() if own is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over this process's part of what `state_dict` returned."""
        world = self.world
        sizes = [size // world.size for size in state["sizes"]]
        columns = [
            state[name][world.rank :: world.size].split(sizes) for name in ("losses", "scores", "classes") if name in state
        ]
        self.steps, self.samples = [Scores(*values) for values in zip(*columns, strict=True)], {}
