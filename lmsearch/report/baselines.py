"""What any image classifier must beat: logistic regression and nearest neighbour on raw pixels.

Shapes: x (N, pixels) float; y (N,) integer classes.
"""

from __future__ import annotations

import numpy as np


def logistic_regression(x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Answers (N,) of multinomial logistic regression with scikit-learn's default penalty."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=5000).fit(x_train, y_train).predict(x_test)


def nearest_neighbour(x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Answers (N,) of the one nearest training image in Euclidean distance."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(n_neighbors=1).fit(x_train, y_train).predict(x_test)


BASELINES = {"logistic regression": logistic_regression, "nearest neighbour": nearest_neighbour}
