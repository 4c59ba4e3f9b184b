"""A number per token: squared error. Shapes: B samples, L tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from lmsearch.engine.objectives.metrics import METRICS
from lmsearch.engine.objectives.objective import Objective
from lmsearch.errors import DataError


def dense_regression(label_smoothing: float = 0.0, *, metric: str = "mse", class_weights: Tensor | None = None) -> Objective:
    """Mean squared error over every token's output (B, L, 1) against targets of the same shape; also the score.

    Axes of length 1 may be missing. There are no labels to smooth and no classes to weigh. Raises DataError for other shapes.
    """

    def losses(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.float() - shaped(targets, outputs)).square().flatten(1).mean(1)

    def errors(outputs: Tensor, targets: Tensor) -> Tensor:
        return losses(outputs.detach(), targets)

    def statistics(outputs: Tensor, targets: Tensor) -> Tensor:
        values = errors(outputs, targets).double()
        return torch.stack([values.sum(), values.new_tensor(len(values))])

    return Objective(METRICS[metric], losses, errors, lambda _: None, statistics, lambda sums: (sums[0] / sums[1]).item())


def shaped(targets: Tensor, outputs: Tensor) -> Tensor:
    """Return targets in the shape of the outputs, from which they may differ in axes of length 1 alone."""
    if [n for n in targets.shape if n != 1] != [n for n in outputs.shape if n != 1]:
        raise DataError(f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} differ; expected one shape")
    return targets.reshape(outputs.shape)
