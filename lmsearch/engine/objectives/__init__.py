"""What networks are trained for and judged by, one file for each kind of target."""

from lmsearch.engine.objectives.classes import (
    TOP,
    accuracy,
    balanced_accuracy,
    class_accuracy,
    class_counts,
    class_weights,
    classification,
    top5_accuracy,
)
from lmsearch.engine.objectives.kinds import OBJECTIVES, objective_for
from lmsearch.engine.objectives.metrics import METRICS, Metric, metric_for
from lmsearch.engine.objectives.objective import Objective, balance
from lmsearch.engine.objectives.scores import Scores
from lmsearch.engine.objectives.tokens import dense_regression

__all__ = [
    "METRICS",
    "OBJECTIVES",
    "TOP",
    "Metric",
    "Objective",
    "Scores",
    "accuracy",
    "balance",
    "balanced_accuracy",
    "class_accuracy",
    "class_counts",
    "class_weights",
    "classification",
    "dense_regression",
    "metric_for",
    "objective_for",
    "top5_accuracy",
]
