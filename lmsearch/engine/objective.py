"""What a network is trained for and judged by: a loss and a score per sample, and sums over samples that tell the rest.

Shapes: B samples of a batch, n of a set, C classes, L tokens, S sums. Class counts are (C, C + 1): rows are true classes,
columns the classes answered, and the last column counts samples whose class is among the five most probable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from lmsearch.data.info import target_kind
from lmsearch.data.order import ALONE, Ranks
from lmsearch.errors import ConfigError

TOP = 5  # classes that an answer may name for the last column of the counts


@dataclass(frozen=True)
class Metric:
    """The number that networks are chosen and judged by; `balanced`: every class counts alike, whatever its samples."""

    name: str
    target: str  # kind of data that it judges, as DataInfo.target
    higher_is_better: bool
    bounds: tuple[float, float]  # least and most that `signed` values can be
    balanced: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def plain(self) -> str:
        """What the mean of unweighted scores is called, as of a batch in training."""
        return metric_for(self.target).name

    @property
    def score_name(self) -> str:
        """What `signed` values are called."""
        return self.name if self.higher_is_better else f"minus {self.name}"

    def signed(self, value: float) -> float:
        """Return a value so that higher is better; the same again gives the value back."""
        return value if self.higher_is_better else -value


METRICS = {  # the first of a kind of target is its default
    metric.name: metric
    for metric in (
        Metric("accuracy", "class", higher_is_better=True, bounds=(0.0, 1.0)),
        Metric("balanced_accuracy", "class", higher_is_better=True, bounds=(0.0, 1.0), balanced=True),
        Metric("mse", "dense", higher_is_better=False, bounds=(-math.inf, math.inf)),
    )
}


@dataclass(frozen=True)
class Scores:
    """Per-sample results, both (n,), on the CPU after an evaluation. The metric is the mean of `scores`.

    `classes` (n,) are the true classes, if there are any. `sums` are the additive counts of an evaluation.
    """

    losses: Tensor
    scores: Tensor
    classes: Tensor | None = None
    sums: Tensor | None = None

    @property
    def loss(self) -> float:
        """Mean loss."""
        return self.losses.mean().item()

    @property
    def score(self) -> float:
        """Mean score, e.g. accuracy: exact for counts of right answers."""
        return self.scores.double().mean().item()

    def cpu(self) -> Scores:
        """Return the same on the CPU."""
        classes, sums = (None if t is None else t.cpu() for t in (self.classes, self.sums))
        return Scores(self.losses.cpu(), self.scores.cpu(), classes, sums)

    @classmethod
    def concatenate(cls, parts: Iterable[Scores]) -> Scores:
        """Join the batches of one pass: samples follow each other, sums add up as they come."""
        listed = list(parts)
        classes = [part.classes for part in listed if part.classes is not None]
        sums = [part.sums for part in listed if part.sums is not None]
        return cls(
            torch.cat([part.losses for part in listed]),
            torch.cat([part.scores for part in listed]),
            torch.cat(classes) if classes else None,
            reduce(torch.add, sums) if sums else None,
        )

    def of_all(self, world: Ranks) -> Scores:
        """Return the scores of the samples of all processes, each of which has evaluated its part: every sample once."""
        losses, scores = world.gather(self.losses), world.gather(self.scores)
        classes, sums = None if self.classes is None else world.gather(self.classes), self.sums
        return Scores(losses, scores, classes, None if sums is None else world.total(sums))

    @property
    def class_counts(self) -> Tensor:
        """The counts (C, C + 1) of an evaluation; raises ValueError where the targets are no classes."""
        if self.classes is None or self.sums is None:
            raise ValueError("these scores are of targets that are no classes, or of no evaluation")
        return self.sums

    @property
    def true_classes(self) -> Tensor:
        """The true classes (n,); raises ValueError where the targets are none."""
        if self.classes is None:
            raise ValueError("these scores are of targets that are no classes")
        return self.classes


@dataclass(frozen=True)
class Objective:
    """`losses` and `scores` map (outputs, targets) to one float32 value per sample (B,), before any balancing.

    `classes` gives the true class of every sample (B,), or None. `statistics` gives sums over the samples (S,), which may be
    added up over batches and processes, and `summarise` makes the metric of them.
    """

    metric: Metric
    losses: Callable[[Tensor, Tensor], Tensor]
    scores: Callable[[Tensor, Tensor], Tensor]
    classes: Callable[[Tensor], Tensor | None]
    statistics: Callable[[Tensor, Tensor], Tensor]
    summarise: Callable[[Tensor], float]

    def of_set(self, parts: Iterable[Scores], *, world: Ranks = ALONE) -> Scores:
        """Join the batches of one pass, which the processes of `world` share, into scores whose mean is the metric."""
        scores = Scores.concatenate(parts).of_all(world)
        return replace(scores, scores=scores.scores * balance(scores.true_classes)) if self.metric.balanced else scores

    def for_choice(self, scores: Scores) -> Scores:
        """Return the scores with the losses that a choice of directions goes by: of a balanced metric, balanced ones."""
        return replace(scores, losses=scores.losses * balance(scores.true_classes)) if self.metric.balanced else scores

    def evaluation(self, outputs: Tensor, targets: Tensor) -> Scores:
        """Return losses, scores, classes and sums of one batch that is evaluated."""
        parts = (self.losses(outputs, targets), self.scores(outputs, targets), self.classes(targets))
        return Scores(*parts, self.statistics(outputs, targets))

    def standard_error(self, scores: Scores) -> float:
        """Standard error of the metric from the number of samples alone; of a balanced metric, of its classes taken as given."""
        values = scores.scores.double()
        if self.metric.balanced:
            classes = scores.true_classes
            counts = classes.bincount()
            values = values - (values.new_zeros(len(counts)).index_add_(0, classes, values) / counts)[classes]
        return values.std(correction=0).item() / math.sqrt(len(values))


def balance(classes: Tensor) -> Tensor:
    """Weights (n,) float32 with which every class that is present counts alike; their mean is 1. classes (n,)."""
    counts = classes.bincount()
    return len(classes) / (counts.count_nonzero() * counts[classes]).float()


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
    """Class indices (B,) of targets that may be soft (B, C)."""
    return targets if targets.dim() == 1 else targets.argmax(1)


def classification(label_smoothing: float = 0.0, *, metric: str = "accuracy", class_weights: Tensor | None = None) -> Objective:
    """Cross-entropy over logits (B, C) with class indices (B,) or soft targets (B, C), judged by a metric for classes.

    `class_weights` (C,) multiply each class's part of the loss, of soft targets too: -sum_c w_c t_c log p_c.
    """

    def losses(logits: Tensor, targets: Tensor) -> Tensor:
        smoothing = label_smoothing if targets.dim() == 1 else 0.0  # soft targets carry their own
        weight = None if class_weights is None else class_weights.to(logits.device)
        return F.cross_entropy(logits.float(), targets, weight, reduction="none", label_smoothing=smoothing)

    def correct(logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.argmax(1) == hard(targets)).float()

    def statistics(logits: Tensor, targets: Tensor) -> Tensor:
        truth = hard(targets)
        among = (logits.topk(min(TOP, logits.shape[1])).indices == truth[:, None]).any(1)
        return class_counts(logits.argmax(1), truth, logits.shape[1], among)

    kind = METRICS[metric]
    return Objective(kind, losses, correct, hard, statistics, balanced_accuracy if kind.balanced else accuracy)


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


OBJECTIVES: dict[str, Callable[..., Objective]] = {  # by kind of target
    "class": classification,
    "dense": dense_regression,
}


def metric_for(target: str, name: str | None = None) -> Metric:
    """Return the metric of that name, or the default (None) of a kind of target; raise ConfigError where it does not fit."""
    kind = target_kind(target)
    fitting = [metric for metric in METRICS.values() if metric.target == kind.name]
    if name is None:
        return fitting[0]
    if METRICS.get(name) not in fitting:
        accepted = ", ".join(metric.name for metric in fitting)
        raise ConfigError(f"metric={name!r} is not accepted for data with {kind.told}; accepted: {accepted}")
    return METRICS[name]


def objective_for(
    target: str, *, metric: str | None = None, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Objective:
    """Return the objective of a data source's kind of target; raise DataError for one that is not known.

    `metric` None takes the default of that kind.
    """
    kind = metric_for(target, metric)
    return OBJECTIVES[kind.target](label_smoothing, metric=kind.name, class_weights=class_weights)
