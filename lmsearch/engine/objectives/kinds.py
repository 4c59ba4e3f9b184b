"""Which objective each kind of target has."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lmsearch.engine.objectives.classes import classification
from lmsearch.engine.objectives.instances import detection
from lmsearch.engine.objectives.metrics import metric_for
from lmsearch.engine.objectives.objective import Objective
from lmsearch.engine.objectives.segmentation import segmentation
from lmsearch.engine.objectives.tokens import dense_regression

OBJECTIVES: dict[str, Callable[..., Objective]] = {  # by kind of target
    "class": classification,
    "dense": dense_regression,
    "segmentation": segmentation,
    "instances": detection,
}


def objective_for(
    target: str, *, metric: str | None = None, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Objective:
    """Return the objective of a data source's kind of target; raise DataError for one that is not known.

    `metric` None takes the default of that kind.
    """
    kind = metric_for(target, metric)
    return OBJECTIVES[kind.target](label_smoothing, metric=kind.name, class_weights=class_weights)
