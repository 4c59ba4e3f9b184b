"""A number per token: squared error. Shapes: B samples, L tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from lmsearch.engine.objectives.metrics import METRICS
from lmsearch.engine.objectives.objective import Objective


def dense_regression(label_smoothing: float = 0.0, *, metric: str = "mse", class_weights: Tensor | None = None) -> Objective:
    """Mean squared error over every token's output (B, L, 1) against targets of the same shape; also the score.

    There are no labels to smooth and no classes to weigh.
    """

    def losses(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.float() - targets.view_as(outputs)).square().flatten(1).mean(1)

    def errors(outputs: Tensor, targets: Tensor) -> Tensor:
        return losses(outputs.detach(), targets)

    def statistics(outputs: Tensor, targets: Tensor) -> Tensor:
        values = errors(outputs, targets).double()
        return torch.stack([values.sum(), values.new_tensor(len(values))])

    return Objective(METRICS[metric], losses, errors, lambda _: None, statistics, lambda sums: (sums[0] / sums[1]).item())
