"""95 % intervals of accuracies and of their differences.

Shapes: n test samples; S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959964


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """True where the interval does not exclude zero: a difference within noise."""
        return self.low <= 0.0 <= self.high

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def wilson(fraction: float, n: int) -> Interval:
    """Wilson's binomial interval of `fraction` right out of n samples."""
    centre = (fraction + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(fraction * (1 - fraction) / n + Z95**2 / (4 * n**2))
    return Interval(fraction, centre - half, centre + half)


def over_samples(values: np.ndarray) -> Interval:
    """Normal interval of the mean of per-sample values (n,), such as paired differences of one seed."""
    mean, half = float(np.mean(values)), Z95 * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def over_seeds(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean of one value per seed (S >= 2)."""
    from scipy.stats import t  # comes with scikit-learn; slow to import

    mean = float(np.mean(values))
    half = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)
