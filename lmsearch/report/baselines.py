"""What any image classifier must beat: logistic regression and nearest neighbour on raw pixels.

Shapes: x (N, pixels) float; y (N,) integer classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

SIDE = 32  # pixels; larger images are shrunk to it for the baselines
MOST_ITERATIONS, FEWEST_ITERATIONS = 5000, 50
WORK = 2e10  # products of one weight and one value over all iterations, about: a minute on one thread


def logistic_regression(x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Answers (N,) of multinomial logistic regression with scikit-learn's default penalty, stopped after WORK."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    iterations = int(WORK / (x_train.size * len(np.unique(y_train))))
    model = LogisticRegression(max_iter=min(MOST_ITERATIONS, max(FEWEST_ITERATIONS, iterations)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early it is still a baseline
        return model.fit(x_train, y_train).predict(x_test)


def nearest_neighbour(x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Answers (N,) of the one nearest training image in Euclidean distance."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(n_neighbors=1).fit(x_train, y_train).predict(x_test)


BASELINES = {"logistic regression": logistic_regression, "nearest neighbour": nearest_neighbour}


def shortfall(scores: Mapping[str, float], baselines: Mapping[str, float]) -> str | None:
    """Return one sentence on the nets, with their test accuracies by name, that stay below a baseline; None where none does."""
    best = max(baselines.values(), default=0.0)
    below = [name for name, score in scores.items() if score < best]
    if not below:
        return None
    lowest = min(scores[name] for name in below)
    beaten_by = [f"{name} ({score:.4f})" for name, score in baselines.items() if score > lowest]
    return (
        f"below {' and '.join(beaten_by)} on the pixels: {', '.join(below)}; nets that such simple methods beat are trained too"
        " briefly or by the wrong recipe, and say little about scan directions"
    )
