"""The numbers that networks are chosen and judged by, as records: what follows from a metric is asked of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lmsearch.data.info import target_kind
from lmsearch.errors import ConfigError


@dataclass(frozen=True)
class Metric:
    """The number that networks are chosen and judged by; `balanced`: every class counts alike, whatever its samples.

    `in_training` is what the mean of the scores of batches in training is called; "": there are no scores but losses. `masks`:
    it judges masks of objects.
    """

    name: str
    target: str  # kind of data that it judges, as DataInfo.target
    higher_is_better: bool
    bounds: tuple[float, float]  # least and most that `signed` values can be
    in_training: str
    balanced: bool = False
    masks: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def score_name(self) -> str:
        """What `signed` values are called."""
        return self.name if self.higher_is_better else f"minus {self.name}"

    def signed(self, value: float) -> float:
        """Return a value so that higher is better; the same again gives the value back."""
        return value if self.higher_is_better else -value


SHARE = (0.0, 1.0)
METRICS = {  # the first of a kind of target is its default
    metric.name: metric
    for metric in (
        Metric("accuracy", "class", higher_is_better=True, bounds=SHARE, in_training="accuracy"),
        Metric("balanced_accuracy", "class", higher_is_better=True, bounds=SHARE, in_training="accuracy", balanced=True),
        Metric("mse", "dense", higher_is_better=False, bounds=(-math.inf, math.inf), in_training="mse"),
        Metric("miou", "segmentation", higher_is_better=True, bounds=SHARE, in_training="pixel_accuracy"),
        Metric("box_ap", "instances", higher_is_better=True, bounds=SHARE, in_training=""),
        Metric("mask_ap", "instances", higher_is_better=True, bounds=SHARE, in_training="", masks=True),
    )
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
