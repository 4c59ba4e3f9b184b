"""95 % intervals of accuracies and of their differences: over samples, over seeds, and over both.

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


def wilson(fraction: float, n: float) -> Interval:
    """Wilson's binomial interval of `fraction` p right out of n samples.

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n) with z = 1.96.
    """
    centre = (fraction + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(fraction * (1 - fraction) / n + Z95**2 / (4 * n**2))
    return Interval(fraction, centre - half, centre + half).within(0.0, 1.0)


def wilson_by_class(right: np.ndarray, total: np.ndarray) -> Interval:
    """Interval of the mean over classes of the shares right / total, both (C,) counts; classes without samples are left out.

    Wilson's of as many samples as would give the mean its variance, m (1 - m) / v with v = sum_c q_c (1 - q_c) / n_c / C^2, where
    q_c = (r_c + 1) / (n_c + 2) and m is their mean; at most C^2 / sum_c 1 / n_c, which it is where all classes are alike. It
    stays within 0 and 1, and is Wilson's where there is one class. Simulated, it covers 94 to 99.8 %: 10 classes of 5 samples
    96 %, 100 of 5 96 %, nine large classes and one of 5 samples 94 %.
    """
    counted = total > 0
    hits, n = np.asarray(right, float)[counted], np.asarray(total, float)[counted]
    likely = (hits + 1) / (n + 2)
    m, v = float(likely.mean()), float((likely * (1 - likely) / n).sum()) / len(n) ** 2
    return wilson(float((hits / n).mean()), min(m * (1 - m) / v, len(n) ** 2 / float((1 / n).sum())))


def paired_shares(gained: float, lost: float, n: int) -> Interval:
    """Interval of the difference (gained - lost) / n of two shares of n samples; on so many only one of the two was right.

    Bonett and Price's (doi 10.3102/1076998611411915): one sample is added to either count. The variance of the samples alone
    is too small where few differ: it excluded zero where one was right on 3 of 10 more (McNemar p = 0.25).
    """
    one, other = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z95 * math.sqrt((one + other - (one - other) ** 2) / (n + 2))
    return Interval((gained - lost) / n, one - other - half, one - other + half).within(-1.0, 1.0)


def over_samples(values: np.ndarray, classes: np.ndarray | None = None) -> Interval:
    """Normal interval of the mean of per-sample values x (n,), such as paired differences of one seed: see `squared_error`."""
    mean, half = float(np.mean(values)), Z95 * math.sqrt(squared_error(values, classes))
    return Interval(mean, mean - half, mean + half)


def squared_error(values: np.ndarray, classes: np.ndarray | None = None) -> float:
    """Squared standard error of the mean of per-sample values x (n,): var(x) / n.

    With `classes` (n,) the numbers n_c of samples of the classes are taken as given. Then only differences within classes are
    noise: sum_c n_c var_c(x) / n^2. Infinite for a single value, which tells of no spread.
    """
    n = len(values)
    if n < 2:
        return math.inf
    if classes is None:
        return float(np.var(values, ddof=1)) / n
    strata = [values[together == number] for together in [collapsed(classes)] for number in np.unique(together)]
    return sum(len(own) * float(np.var(own, ddof=1)) for own in strata) / n**2


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


def over_both(
    table: np.ndarray, values: Sequence[float], classes: np.ndarray | None = None, *, single: Interval | None = None
) -> Interval:
    """Interval of the mean of values (S >= 2,) of seeds, each the mean over n samples of a row of the table (S, n).

    Other seeds and other samples would both give another mean, so the two errors add up: half^2 = t^2 var(values) / S + z^2 c
    with Student's t of S - 1 degrees of freedom, z = 1.96, and c the mean covariance of two seeds' sampling errors. What samples
    do to one seed alone is in the first part already. It is never less than the interval over the samples of the mean.
    Simulated with 400 samples, whatever part of the variance is of seeds, of samples and of both together, it covers 95 to 99 %
    at 2 seeds, 95 to 98 % at 3, 95 to 97 % at 5, 95 to 96 % at 10 and at 20. The wider of an interval over seeds and one over
    samples covers 92 % at 5, 88 % at 10 and 87 % at 20 where the two errors are alike.
    `classes` as in `squared_error`. `single` is the interval that a row's samples give alone, where it is no normal one. Without
    it that of one sample, which tells of no spread, is over seeds alone.
    """
    own = joint = 0.0
    if table.shape[1] > 1:
        own, joint = float(np.mean([squared_error(row, classes) for row in table])), squared_error(table.mean(axis=0), classes)
    shared = max(0.0, joint - (own - joint) / (len(table) - 1))
    mean, luck = (seeds := over_seeds(values)).mean, seeds.high - seeds.mean
    alone = single or Interval(mean, mean - Z95 * math.sqrt(own), mean + Z95 * math.sqrt(own))
    part, least = (math.sqrt(shared / own), math.sqrt(joint / own)) if own > 0 else (1.0, 1.0)

    def half(reach: float) -> float:
        return max(math.hypot(luck, part * reach), least * reach)

    return Interval(mean, mean - half(mean - alone.low), mean + half(alone.high - mean))
