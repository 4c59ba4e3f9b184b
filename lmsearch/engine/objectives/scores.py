"""What came out of samples, one after the other, and of a set of them.

Shapes: n samples of a set, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from lmsearch.data.order import Ranks
from lmsearch.stats.detection import Precision

Parts = Tensor | tuple[Any, ...]  # (n, ...), or one object per sample


@dataclass(frozen=True)
class Scores:
    """Per-sample results, both (n,), on the CPU after an evaluation. The metric is the mean of `scores`.

    `classes` (n,) are the true classes, if there are any. `sums` are the additive counts of an evaluation. `parts` is what the
    metric of a set is made of where it is no mean over samples; `value` is that metric, once it is known, and the mean of
    `scores` up to rounding; `told` are further numbers of the set, by name, and `precisions` those of detections.
    """

    losses: Tensor
    scores: Tensor
    classes: Tensor | None = None
    sums: Tensor | None = None
    parts: Parts | None = None
    value: float | None = None
    told: Mapping[str, float] = field(default_factory=dict)
    precisions: Mapping[str, Precision] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Mean loss."""
        return self.losses.mean().item()

    @property
    def score(self) -> float:
        """The metric, e.g. accuracy: exact for counts of right answers."""
        return self.scores.double().mean().item() if self.value is None else self.value

    def cpu(self) -> Scores:
        """Return the same on the CPU."""
        classes, sums = (None if t is None else t.cpu() for t in (self.classes, self.sums))
        parts = self.parts.cpu() if isinstance(self.parts, Tensor) else self.parts
        return Scores(self.losses.cpu(), self.scores.cpu(), classes, sums, parts, self.value)

    def emptied(self) -> Scores:
        """Return the same kinds of tensors without samples."""
        classes, sums = None if self.classes is None else self.classes[:0], None if self.sums is None else self.sums * 0
        return Scores(self.losses[:0], self.scores[:0], classes, sums, None if self.parts is None else self.parts[:0])

    @classmethod
    def concatenate(cls, listed: Iterable[Scores]) -> Scores:
        """Join the batches of one pass: samples follow each other, sums add up as they come."""
        batches = list(listed)
        classes = [batch.classes for batch in batches if batch.classes is not None]
        sums = [batch.sums for batch in batches if batch.sums is not None]
        parts = [batch.parts for batch in batches if batch.parts is not None]
        return cls(
            torch.cat([batch.losses for batch in batches]),
            torch.cat([batch.scores for batch in batches]),
            torch.cat(classes) if classes else None,
            reduce(torch.add, sums) if sums else None,
            _joined(parts) if parts else None,
        )

    def of_all(self, world: Ranks) -> Scores:
        """Return the scores of the samples of all processes, each of which has evaluated its part: every sample once."""
        losses, scores = world.gather(self.losses), world.gather(self.scores)
        classes, sums, parts = None if self.classes is None else world.gather(self.classes), self.sums, self.parts
        if parts is not None:
            parts = world.gather(parts) if isinstance(parts, Tensor) else world.gather_each(parts)
        return Scores(losses, scores, classes, None if sums is None else world.total(sums), parts)

    @property
    def class_counts(self) -> Tensor:
        """The counts (C, C + 1) of an evaluation; raises ValueError where the targets are no classes."""
        if self.classes is None or self.sums is None:
            raise ValueError("these scores are of targets that are no classes, or of no evaluation")
        return self.sums

    @property
    def confusion(self) -> Tensor:
        """The confusion matrix (C, C) of pixels; raises ValueError where they have no classes."""
        if self.classes is not None or self.sums is None or self.sums.dim() != 2:
            raise ValueError("these scores are not of classes of pixels, or of no evaluation")
        return self.sums

    @property
    def true_classes(self) -> Tensor:
        """The true classes (n,); raises ValueError where the targets are none."""
        if self.classes is None:
            raise ValueError("these scores are of targets that are no classes")
        return self.classes


def _joined(parts: list[Parts]) -> Parts:
    """Return the parts of several batches, which are all of one kind, as one."""
    tensors = [part for part in parts if isinstance(part, Tensor)]
    return torch.cat(tensors) if tensors else tuple(one for part in parts for one in part)
