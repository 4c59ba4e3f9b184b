"""95 % intervals of accuracies and of their differences.

An interval over seeds or samples is cut at the bounds of what it estimates, such as 0 and 1 of an accuracy: the true value lies
between them, so the cut interval holds it as often as the whole one.
Shapes: n test samples; S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmsearch.stats.rounding import settled

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
        return not (self.above_zero or self.below_zero)

    @property
    def above_zero(self) -> bool:
        """True where the whole interval lies above zero, by more than rounding."""
        return bool(settled([self.low, self.mean, self.high])[0] > 0)

    @property
    def below_zero(self) -> bool:
        """True where the whole interval lies below zero, by more than rounding."""
        return bool(settled([self.low, self.mean, self.high])[2] < 0)

    def within(self, least: float, most: float) -> Interval:
        """Return the interval cut at the bounds of what it estimates."""
        return Interval(self.mean, max(self.low, least), min(self.high, most))

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def wilson(fraction: float, n: int) -> Interval:
    """Wilson's binomial interval of `fraction` p right out of n samples.

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n) with z = 1.96.
    """
    centre = (fraction + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(fraction * (1 - fraction) / n + Z95**2 / (4 * n**2))
    return Interval(fraction, centre - half, centre + half).within(0.0, 1.0)


def wilson_by_class(right: np.ndarray, total: np.ndarray) -> Interval:
    """Interval of the mean over classes of the shares right / total, both (C,) counts; classes without samples are left out.

    Each class's own Wilson bounds, put together (MOVER): mean_c p_c - sqrt(sum_c (p_c - low_c)^2) / C, and likewise above.
    It stays within 0 and 1, and is Wilson's where there is one class.
    """
    each = [wilson(r / n, n) for r, n in zip(right.tolist(), total.tolist(), strict=True) if n > 0]
    mean = sum(i.mean for i in each) / len(each)
    below, above = math.hypot(*(i.mean - i.low for i in each)), math.hypot(*(i.high - i.mean for i in each))
    return Interval(mean, max(0.0, mean - below / len(each)), min(1.0, mean + above / len(each)))


def over_samples(values: np.ndarray, classes: np.ndarray | None = None) -> Interval:
    """Normal interval of the mean of per-sample values x (n,), such as paired differences of one seed.

    mean(x) +- 1.96 sqrt(var(x) / n). With `classes` (n,) the numbers n_c of samples of the classes are taken as given.
    Then only differences within classes are noise: mean(x) +- 1.96 sqrt(sum_c n_c var_c(x)) / n.
    """
    n = len(values)
    if classes is None:
        error = float(np.std(values, ddof=1)) / math.sqrt(n)
    else:
        strata = [values[together == number] for together in [collapsed(classes)] for number in np.unique(together)]
        error = math.sqrt(sum(len(own) * float(np.var(own, ddof=1)) for own in strata)) / n
    mean = float(np.mean(values))
    return Interval(mean, mean - Z95 * error, mean + Z95 * error)


def collapsed(classes: np.ndarray) -> np.ndarray:
    """Return the classes (n,) with those of a single sample, which show no spread, made one; a lone one joins the smallest."""
    names, counts = np.unique(classes, return_counts=True)
    names = names[np.argsort(counts, kind="stable")]
    singles = int((counts == 1).sum())
    merged = names[: max(singles, 2)] if singles else names[:0]
    return np.where(np.isin(classes, merged), names[0], classes)


def over_seeds(values: Sequence[float] | np.ndarray) -> Interval:
    """Student's t interval of the mean of one value x_s per seed (S >= 2): mean(x) +- t_{0.975, S - 1} sqrt(var(x) / S)."""
    from scipy.stats import t  # slow to import

    mean = float(np.mean(values))
    half = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)
