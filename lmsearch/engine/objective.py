"""What a network is trained for: a loss and a score per sample. The training loop takes any Objective.

Shapes: B samples, C classes, L tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Objective:
    """`losses` and `scores` map (outputs, targets) to one float32 value per sample (B,); `metric` names the mean score."""

    metric: str
    losses: Callable[[Tensor, Tensor], Tensor]
    scores: Callable[[Tensor, Tensor], Tensor]
    higher_is_better: bool


def classification(label_smoothing: float = 0.0) -> Objective:
    """Cross-entropy over logits (B, C) with class indices (B,) or soft targets (B, C); the score is top-1 accuracy (0 to 1)."""

    def losses(logits: Tensor, targets: Tensor) -> Tensor:
        smoothing = label_smoothing if targets.dim() == 1 else 0.0  # soft targets carry their own
        return F.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=smoothing)

    def correct(logits: Tensor, targets: Tensor) -> Tensor:
        hard = targets if targets.dim() == 1 else targets.argmax(1)
        return (logits.argmax(1) == hard).float()

    return Objective("accuracy", losses, correct, higher_is_better=True)


def dense_regression() -> Objective:
    """Mean squared error over every token's output (B, L, 1) against targets of the same shape; also the score."""

    def losses(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.float() - targets.view_as(outputs)).square().flatten(1).mean(1)

    return Objective("mse", losses, lambda outputs, targets: losses(outputs.detach(), targets), higher_is_better=False)


def objective_for(target: str, *, label_smoothing: float = 0.0) -> Objective:
    """Return the objective of a data source's kind of target: "class" (one per image) or "dense" (one value per token)."""
    return dense_regression() if target == "dense" else classification(label_smoothing)


@dataclass(frozen=True)
class Scores:
    """Per-sample results of an evaluation, both (num_samples,) on the CPU."""

    losses: Tensor
    scores: Tensor

    @property
    def loss(self) -> float:
        """Mean loss."""
        return self.losses.mean().item()

    @property
    def score(self) -> float:
        """Mean score, e.g. accuracy."""
        return self.scores.mean().item()

    @classmethod
    def concatenate(cls, parts: list[Scores]) -> Scores:
        """Join the batches of one pass."""
        return cls(torch.cat([p.losses for p in parts]), torch.cat([p.scores for p in parts]))
