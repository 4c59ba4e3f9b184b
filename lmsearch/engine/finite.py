"""What must be finite before anything is kept: losses, weights, and the averages of the optimizer and of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from lmsearch.errors import LmsearchError
from lmsearch.words import first_of

ALPHAS = "alphas"  # last part of their names; minus infinity there marks a direction that was dropped
SUSPECT = 30.0  # weights larger than this are tried on a batch before they are trusted: finite ones can overflow as well

SHOWN = 5  # samples in a message


class Spoilt(NamedTuple):
    """A step that was not finite, counted from 0, and the numbers of its samples whose loss was not (else of all)."""

    epoch: int
    step: int
    samples: tuple[int, ...]

    def __str__(self) -> str:
        return f"step {self.step + 1} of epoch {self.epoch + 1} (samples {self.first})"

    @property
    def first(self) -> str:
        """The first of the samples, and how many more there are."""
        return first_of(list(map(str, self.samples)), SHOWN)


class TrainingDiverged(LmsearchError):
    """Losses or weights are no longer finite; `spoilt` is the step of the first loss that is not, where that is known."""

    def __init__(self, message: object = "", *, spoilt: Spoilt | None = None) -> None:
        super().__init__(message)
        self.spoilt = spoilt


def unfinite(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Return the names of the tensors that hold nan or infinite numbers; dropped alphas hold none."""
    return [name for name, tensor in named if not torch.isfinite(_counting(name, tensor)).all()]


def largest(named: Iterable[tuple[str, Tensor]]) -> float:
    """Return the largest magnitude in the tensors, one pass over them and one wait for the device; nan where one is."""
    tensors = [_counting(name, tensor.detach()) for name, tensor in named]
    return get_total_norm([t for t in tensors if t.numel()], math.inf).item()


def weights_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of a model that hold fractions."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            yield name, tensor


def averages_of(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Yield what an optimizer remembers of gradients: an infinite square would hold its weight still for good."""
    for state in optimizer.state.values():
        for name, value in state.items():
            if name != "step" and isinstance(value, Tensor) and value.is_floating_point():
                yield f"optimizer.{name}", value


def several(names: Iterable[str]) -> str:
    """Return the first of the names and how many more there are."""
    return first_of(list(dict.fromkeys(names)), 1)


def unfinite_weights(weights: Mapping[str, Tensor]) -> str | None:
    """Return which of a model's stored weights are not finite, in a few words, or None where all are; shapes alone are."""
    bad = unfinite((name, tensor) for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.is_meta)
    return several(bad) if bad else None


def _counting(name: str, tensor: Tensor) -> Tensor:
    """Return the numbers of a tensor that must be finite."""
    return tensor[tensor != -math.inf] if name.rsplit(".", 1)[-1] == ALPHAS else tensor
