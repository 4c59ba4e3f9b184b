"""What a network is trained for and judged by: a loss and a score per sample, and what a set of samples tells together.

Shapes: B samples of a batch, n of a set, S sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from lmsearch.data.order import ALONE, Ranks
from lmsearch.data.own_size import OwnSize
from lmsearch.engine.objectives.metrics import Metric
from lmsearch.engine.objectives.scores import Parts, Scores
from lmsearch.stats.detection import Precision

Outputs = Any  # of a network: a tensor, or an object such as DenseOutputs
Targets = Any  # a tensor, or Instances


def as_they_are(outputs: Outputs, targets: Targets, own: Sequence[OwnSize] | None) -> tuple[Any, Any]:
    """Return outputs and targets unchanged."""
    return outputs, targets


class OfSet(NamedTuple):
    """The metric of a set, one value per sample (n,) float64 whose mean it is, and further numbers by name.

    `precisions` are those of detections, class by class, by what is detected.
    """

    value: float
    each: Tensor
    told: Mapping[str, float] = {}
    precisions: Mapping[str, Precision] = {}


@dataclass(frozen=True)
class Objective:
    """`losses` and `scores` map (outputs, targets) to one float32 value per sample (B,), before any balancing.

    `classes` gives the true class of every sample (B,), or None. `statistics` gives sums over the samples (S,), which may be
    added up over batches and processes, and `summarise` makes the metric of them.
    Where the metric is no mean over samples, `parts` gives what it is made of, sample by sample, and `of_parts` makes of those
    of a set the metric and the values of samples, which are what is paired where networks are compared.
    `measured` maps (outputs, targets, own) to the two arguments of `statistics` and `parts`: answers and truth, or what is
    counted of them, at the images' own sizes where `own` tells them.
    """

    metric: Metric
    losses: Callable[[Outputs, Targets], Tensor]
    scores: Callable[[Outputs, Targets], Tensor]
    classes: Callable[[Targets], Tensor | None]
    statistics: Callable[[Outputs, Targets], Tensor | None]
    summarise: Callable[[Tensor], float]
    parts: Callable[[Outputs, Targets], Parts] | None = None
    of_parts: Callable[[Any], OfSet] | None = None
    measured: Callable[[Outputs, Targets, Sequence[OwnSize] | None], tuple[Any, Any]] = as_they_are

    def of_set(self, batches: Iterable[Scores], *, world: Ranks = ALONE) -> Scores:
        """Join the batches of one pass, which the processes of `world` share, into scores that give the metric."""
        scores = Scores.concatenate(batches).of_all(world)
        if self.of_parts is not None and scores.parts is not None:
            value, each, told, precisions = self.of_parts(scores.parts)
            return replace(scores, scores=each, parts=None, value=value, told=told, precisions=precisions)
        return replace(scores, scores=scores.scores * balance(scores.true_classes)) if self.metric.balanced else scores

    def for_choice(self, scores: Scores) -> Scores:
        """Return the scores with the losses that a choice of directions goes by: of a balanced metric, balanced ones."""
        return replace(scores, losses=scores.losses * balance(scores.true_classes)) if self.metric.balanced else scores

    @property
    def by_loss(self) -> Objective:
        """The same where losses alone count, as in choices of directions: what a metric of sets is made of is left out."""
        return replace(self, statistics=lambda *_: None, parts=None, of_parts=None, measured=as_they_are)

    def evaluation(self, outputs: Outputs, targets: Targets, own: Sequence[OwnSize] | None = None) -> Scores:
        """Return losses, scores, classes, sums and parts of a batch that is evaluated; `own` are its images at their sizes."""
        found = (self.losses(outputs, targets), self.scores(outputs, targets), self.classes(targets))
        answers, truth = self.measured(outputs, targets, own)
        parts = None if self.parts is None else self.parts(answers, truth)
        return Scores(*found, self.statistics(answers, truth), parts)

    def trained(self, seen: Scores) -> dict[str, float]:
        """Return what the batches of an epoch in training tell, by name in metrics.jsonl."""
        name = self.metric.in_training
        return {"train_loss": seen.loss} | ({f"train_{name}": seen.score} if name else {})

    def standard_error(self, scores: Scores) -> float:
        """Standard error of the metric from the number of samples alone; of a balanced metric, of its classes taken as given.

        Infinite for a single sample, which shows no spread.
        """
        values = scores.scores.double()
        if len(values) < 2:
            return math.inf
        if self.metric.balanced:
            classes = scores.true_classes
            counts = classes.bincount()
            values = values - (values.new_zeros(len(counts)).index_add_(0, classes, values) / counts)[classes]
        return values.std(correction=0).item() / math.sqrt(len(values))


def balance(classes: Tensor) -> Tensor:
    """Weights (n,) float32 with which every class that is present counts alike; their mean is 1. classes (n,)."""
    counts = classes.bincount()
    return len(classes) / (counts.count_nonzero() * counts[classes]).float()
