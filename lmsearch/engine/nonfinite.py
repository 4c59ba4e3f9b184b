"""What a training answers to a step that is not finite: it ends, or leaves the step out and, if that does not help, goes back."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from lmsearch.engine.finite import Spoilt, TrainingDiverged
from lmsearch.errors import ConfigError, did_you_mean

LOWER = 0.5  # what the learning rates are multiplied by where a training goes back
MOST_RETURNS = 5  # times that a training goes back
MOST_KEPT = 1000  # steps that are remembered one by one
FILE = "nonfinite.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What is done about a loss or gradient that is not finite.

    leaves_out: such a step moves nothing and is counted, and only several in a row end the training. goes_back: instead of
    ending, the training goes back to the last state that was saved, with lower learning rates.
    """

    name: str
    leaves_out: bool
    goes_back: bool


ANSWERS = {
    answer.name: answer
    for answer in (
        Answer("stop", leaves_out=False, goes_back=False),
        Answer("skip", leaves_out=True, goes_back=False),
        Answer("rollback", leaves_out=True, goes_back=True),
    )
}


def answer_named(name: str) -> Answer:
    """Return the answer of this name; raise ConfigError for any other text."""
    if name not in ANSWERS:
        raise ConfigError(f"on_nonfinite={name!r} is not accepted{did_you_mean(name, ANSWERS)}")
    return ANSWERS[name]


@dataclass
class Skips:
    """The steps that a training left out, and how often it went back; a part of the training state.

    `limit` steps in a row are one too many. `beside` is the optimizer of the alphas, where they learn: a step that is left out
    moves them neither. `rate` is what learning rates are multiplied by.
    """

    answer: Answer = ANSWERS["stop"]
    limit: int = 3
    beside: torch.optim.Optimizer | None = None
    rate: float = field(default=1.0, init=False)
    in_a_row: int = field(default=0, init=False)
    returns: int = field(default=0, init=False)
    number: int = field(default=0, init=False)  # of all steps that were left out, also of those that were then taken back
    steps: list[Spoilt] = field(default_factory=list, init=False)

    @property
    def alphas(self) -> list[Tensor]:
        """What moves beside the weights."""
        return [] if self.beside is None else [alpha for group in self.beside.param_groups for alpha in group["params"]]

    def remember(self) -> Callable[[], None]:
        """Return what sets alphas and their optimizer to what they are now."""
        if self.beside is None:
            return lambda: None
        optimizer, state = self.beside, copy.deepcopy(self.beside.state_dict())
        before = [(alpha, alpha.detach().clone()) for alpha in self.alphas]

        @torch.no_grad()
        def undo() -> None:
            for alpha, value in before:
                alpha.copy_(value)
            optimizer.load_state_dict(state)

        return undo

    @property
    def living(self) -> list[Tensor]:
        """The alphas, with 0 for minus infinity, which marks a dropped direction."""
        return [alpha.detach().masked_fill(alpha.detach() == -math.inf, 0.0) for alpha in self.alphas]

    def alphas_are_finite(self) -> bool:
        """Tell whether alphas are, with one wait for the device."""
        return all_finite(self.living)

    def leave_out(self, spoilt: Spoilt, advice: str) -> None:
        """Count a step that is left out; raise TrainingDiverged where it is one too many in a row."""
        self.in_a_row, self.number = self.in_a_row + 1, self.number + 1
        self.steps = [*self.steps, spoilt][-MOST_KEPT:]
        log.warning("%s is left out: its loss or gradient is not finite (%d in a row)", spoilt, self.in_a_row)
        if self.in_a_row >= self.limit:
            what = f"{self.in_a_row} steps in a row have no finite loss or gradient, the last of them {spoilt}"
            raise TrainingDiverged(f"{what}; {advice}")

    def go_on_lower(self, before: dict[str, Any]) -> None:
        """Take over what was known `before` an earlier state was loaded, and lower the rates."""
        self.load_state_dict(before)
        self.rate, self.in_a_row, self.returns = self.rate * LOWER, 0, self.returns + 1
        if self.beside is not None:
            for group in self.beside.param_groups:
                group["lr"] *= LOWER

    def counts(self) -> dict[str, int]:
        """Return what results say: nothing where no step can be left out."""
        return {"skipped_steps": self.number, "rollbacks": self.returns} if self.answer.leaves_out else {}

    def told(self) -> dict[str, Any]:
        """Return plain values for nonfinite.json; epochs and steps are counted from 0."""
        return {"skipped_steps": self.number, "rollbacks": self.returns, "steps": [one._asdict() for one in self.steps]}

    def state_dict(self) -> dict[str, Any]:
        """Return what the training goes on with, as plain values."""
        plain = [[one.epoch, one.step, list(one.samples)] for one in self.steps]
        return {"rate": self.rate, "in_a_row": self.in_a_row, "returns": self.returns, "number": self.number, "steps": plain}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.rate, self.in_a_row, self.returns = state["rate"], state["in_a_row"], state["returns"]
        self.number = state["number"]
        self.steps = [Spoilt(epoch, step, tuple(samples)) for epoch, step, samples in state["steps"]]


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Tell whether all numbers are finite, with one pass over them and one wait for the device."""
    filled = [tensor for tensor in tensors if tensor.numel()]
    return math.isfinite(get_total_norm(filled, math.inf).item())  # nan where a number is
