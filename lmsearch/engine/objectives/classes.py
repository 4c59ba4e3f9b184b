"""One class per sample: cross-entropy, and what counts of answers by true class tell.

Shapes: B samples of a batch, n of a set, C classes. Class counts are (C, C + 1): rows are true classes, columns the classes
answered, and the last column counts samples whose class is among the five most probable.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lmsearch.engine.objectives.metrics import METRICS
from lmsearch.engine.objectives.objective import Objective
from lmsearch.errors import DataError

TOP = 5  # classes that an answer may name for the last column of the counts


def class_weights(counts: Tensor) -> Tensor:
    """Weights (C,) float32 of classes with so many samples (C,): N / (C' n) of the C' that have some, 1 of the others."""
    share = counts.sum() / (counts.count_nonzero() * counts.clamp(min=1))
    return torch.where(counts > 0, share, 1.0).float()


def class_counts(answers: Tensor, truth: Tensor, num_classes: int, among_top: Tensor | None = None) -> Tensor:
    """Count answers (n,) by true class (n,): (C, C + 1) int64; `among_top` (n,) fills the last column, else the diagonal."""
    counts = torch.zeros(num_classes, num_classes + 1, dtype=torch.int64, device=answers.device)
    ones = torch.ones_like(truth)
    counts.index_put_((truth, answers), ones, accumulate=True)
    hit = answers == truth if among_top is None else among_top
    counts[:, -1].index_add_(0, truth, hit.long())
    return counts


def class_accuracy(counts: Tensor) -> Tensor:
    """Share of right answers of every class (C,) float64; nan where a class has no samples. counts (C, C + 1)."""
    return counts.diagonal().double() / counts[:, :-1].sum(1)


def accuracy(counts: Tensor) -> float:
    """Share of right answers (0 to 1)."""
    return (counts.diagonal().sum().double() / counts[:, :-1].sum()).item()


def balanced_accuracy(counts: Tensor) -> float:
    """Mean accuracy over the classes that have samples (0 to 1)."""
    return class_accuracy(counts).nanmean().item()


def top5_accuracy(counts: Tensor) -> float:
    """Share of samples whose class is among the five most probable (0 to 1)."""
    return (counts[:, -1].sum().double() / counts[:, :-1].sum()).item()


def hard(targets: Tensor) -> Tensor:
    """Class indices (B,) of targets that may be soft (B, C); int64, as PyTorch takes uint8 indices for a mask."""
    indices = targets if targets.dim() == 1 else targets.argmax(1)
    return indices if indices.is_floating_point() else indices.long()


def classification(label_smoothing: float = 0.0, *, metric: str = "accuracy", class_weights: Tensor | None = None) -> Objective:
    """Cross-entropy over logits (B, C) with class indices (B,) or soft targets (B, C), judged by a metric for classes.

    Indices may be of any whole-number type. `class_weights` (C,) multiply each class's part of the loss, of soft targets too:
    -sum_c w_c t_c log p_c.
    """

    def losses(logits: Tensor, targets: Tensor) -> Tensor:
        soft = targets.dim() > 1  # and carry their own smoothing
        weight = None if class_weights is None else class_weights.to(logits.device)
        try:
            truth, smoothing = (targets, 0.0) if soft else (hard(targets), label_smoothing)
            return F.cross_entropy(logits.float(), truth, weight, reduction="none", label_smoothing=smoothing)
        except IndexError as error:  # of the CPU; a GPU stops with a message of its own
            low, high = targets.min().item(), targets.max().item()
            raise DataError(f"labels go from {low} to {high}, but the network has {logits.shape[1]} outputs") from error

    def correct(logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.argmax(1) == hard(targets)).float()

    def statistics(logits: Tensor, targets: Tensor) -> Tensor:
        truth = hard(targets)
        among = (logits.topk(min(TOP, logits.shape[1])).indices == truth[:, None]).any(1)
        return class_counts(logits.argmax(1), truth, logits.shape[1], among)

    kind = METRICS[metric]
    return Objective(kind, losses, correct, hard, statistics, balanced_accuracy if kind.balanced else accuracy)
