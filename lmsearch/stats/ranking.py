"""Do two orders agree, and is a difference more than luck: rank correlation and its reliability, paired tests, Holm.

Shapes: A architectures; S seeds; n pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from lmsearch.stats.intervals import Interval
from lmsearch.stats.rounding import settled, tied

RESAMPLES = 1000
FEWEST_RANKED = 5  # architectures from which a bootstrap of tau covers what it says
COUNTED = 13  # differences up to which every way to sign them is counted, as SciPy does it with ties
SEEN = 0.8  # of audits that are to show a difference
LEAST_RANGE, LEVEL = 2.0, 0.05  # of `differ`: seed standard deviations that architectures range over, and the highest p


def kendall(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Kendall's tau-b of two scores (A,): 1 same order, 0 unrelated, -1 reversed; nan where one of them is constant.

    tau_b = sum_ij s_ij t_ij / sqrt(sum_ij s_ij^2 * sum_ij t_ij^2) with s_ij = sign(a_i - a_j) and t_ij = sign(b_i - b_j).
    """
    from scipy.stats import kendalltau  # slow to import

    return float(kendalltau(settled(a), settled(b)).statistic)


def kendall_interval(a: Sequence[float], b: Sequence[float], *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """Kendall's tau-b with its 95 % percentile interval over bootstrap samples of the architectures.

    Samples in which one score is constant are left out; nan bounds where that is all of them, and of fewer than FEWEST_RANKED
    architectures: of unrelated orders it covers 95 to 98 % from five on, of four 92 %, and of three 67 %, often as [1, 1].
    """
    first, second = settled(a), settled(b)
    if len(first) < FEWEST_RANKED:
        return Interval(kendall(first, second) if np.ptp(first) > 0 and np.ptp(second) > 0 else math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(first), size=(resamples, len(first)))
    counts = np.stack([np.bincount(p, minlength=len(first)) for p in picks])  # (R, A): how often a sample holds each
    taus = _kendall_of_samples(first, second, counts.astype(float))
    low, high = np.percentile(taus, [2.5, 97.5]) if len(taus) else (math.nan, math.nan)
    tau = kendall(first, second) if np.ptp(first) > 0 and np.ptp(second) > 0 else math.nan
    return Interval(tau, float(low), float(high))


def _kendall_of_samples(first: np.ndarray, second: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return tau-b of every sample that holds architecture a counts[r, a] times, without those where one score is constant."""
    one, two = (np.sign(scores[:, None] - scores) for scores in (first, second))  # (A, A)

    def pairs(signs: np.ndarray) -> np.ndarray:
        return ((counts @ signs) * counts).sum(axis=1)

    scale = np.sqrt(pairs(one**2) * pairs(two**2))
    return pairs(one * two)[scale > 0] / scale[scale > 0]


def top_quartile(truth: Sequence[float]) -> np.ndarray:
    """Return the indices of the best quarter (at least three) by `truth`, best first."""
    count = max(3, round(len(truth) / 4))
    return np.argsort(-np.asarray(truth, dtype=float), kind="stable")[:count]


def spearman_brown(correlation: float, longer: float = 2) -> float:
    """Return the reliability of a mean of `longer` times as many seeds as the parts that correlate so: k r / (1 + (k - 1) r).

    It holds for Pearson's correlation.
    """
    return longer * correlation / (1 + (longer - 1) * correlation) if correlation > -1 / max(1, longer - 1) else -1.0


def noise_ceiling(scores: np.ndarray, *, step: float = 0.0) -> float:
    """The agreement that the mean over all seeds has with another such mean: Kendall's tau-b; scores (A, S), S >= 2.

    tau is the mean over all halvings of the seeds of tau_b(mean of one half, mean of the other); with an odd S each halving
    leaves one seed out. Of normal scores r = sin(pi tau / 2) is Pearson's correlation (Greiner), which Spearman and Brown take
    from a half to all seeds, and 2 asin(r) / pi is its tau again. 0 where the halves do not agree more than by chance.
    It is what repeating all trainings would reach, and no bound: both means are noisy, so a score without noise mostly agrees
    better with one of them, up to about the square root of this. `step` is what scores were rounded to: means no further
    apart count as ties.
    """
    seeds = scores.shape[1]
    half = seeds // 2
    taus = []
    for first in combinations(range(seeds), half):
        rest = [s for s in range(seeds) if s not in first]
        halves = ([tied(scores[:, list(own)].mean(1), step) for own in (first, c)] for c in combinations(rest, half))
        taus += [kendall(*means) for means in halves]
    if np.all(np.isnan(taus)):
        return 0.0
    whole = spearman_brown(math.sin(math.pi / 2 * float(np.nanmean(taus))), seeds / half)
    return 2 / math.pi * math.asin(min(1.0, max(0.0, whole)))


def seed_deviation(scores: np.ndarray) -> float:
    """Standard deviation over seeds, pooled over architectures; scores (A, S), S >= 2.

    sqrt(mean_a sum_s (x_as - mean_s x_as)^2 / (S - 1)).
    """
    return float(np.sqrt(scores.var(axis=1, ddof=1).mean()))


def range_in_deviations(scores: np.ndarray, *, same_seeds: bool = False) -> float:
    """Best minus worst mean score in units of `seed_deviation`; infinite where seeds do not matter at all.

    With `same_seeds` what a seed does to all A architectures together is taken out, as in `architectures_differ`.
    """
    if same_seeds:  # their mean takes 1/A of the variance with it
        return range_in_deviations(scores - scores.mean(axis=0)) * math.sqrt(1 - 1 / len(scores))
    means, deviation = scores.mean(axis=1), seed_deviation(scores)
    spread, deviation = settled([np.ptp(means), deviation]).tolist()
    return spread / deviation if deviation > 0 else (math.inf if spread > 0 else 0.0)


def architectures_differ(scores: np.ndarray, *, same_seeds: bool) -> float:
    """p-value of an analysis of variance: could architectures that are all alike differ so? scores (A, S), S >= 2.

    p = P(F > S var_a(mean_s x_as) / (sum_as e_as^2 / d)), F having A - 1 and d degrees of freedom.
    Residuals are e_as = x_as - mean_s x_as, with d = A (S - 1).
    With `same_seeds` every architecture was trained with the same S seeds, and a seed moves all of them together (equal
    initial weights and batches). That part is taken out: e_as loses its mean over a, and d = (A - 1) (S - 1).
    """
    from scipy.stats import f

    means = settled(scores.mean(axis=1))
    if np.ptp(means) == 0:
        return 1.0
    architectures, seeds = scores.shape
    noise = scores - scores.mean(axis=1, keepdims=True)
    freedom = architectures * (seeds - 1)
    if same_seeds:
        noise, freedom = noise - noise.mean(axis=0, keepdims=True), freedom - (seeds - 1)
    between = seeds * means.var(ddof=1)
    within = float((noise**2).sum()) / freedom
    if within <= np.finfo(float).eps * between:
        return 0.0
    return float(f.sf(between / within, architectures - 1, freedom))


def smallest_seen(architectures: int, seeds: int, *, same_seeds: bool) -> float:
    """The standard deviation between architectures, in that between seeds, that `architectures_differ` shows in SEEN of audits.

    With normal worths of deviation w the F statistic is (1 + S w^2) times one of the null, so w^2 = (F_0.95 / F_0.2 - 1) / S with
    quantiles of F. Of 8 architectures that are trained twice it is 1.7; that they range over LEAST_RANGE as well costs nothing
    there (simulated: 80 %). Smaller differences are missed more often.
    """
    from scipy.stats import f

    freedom = (architectures - 1) * (seeds - 1) if same_seeds else architectures * (seeds - 1)
    high, low = (float(f.ppf(share, architectures - 1, freedom)) for share in (1 - LEVEL, 1 - SEEN))
    return math.sqrt((high / low - 1) / seeds)


def differ(range_in_deviations: float, p: float) -> bool:
    """True where architectures differ by more than seeds do, so that a search may be warranted: by range and by analysis of
    variance."""
    return range_in_deviations >= LEAST_RANGE and p < LEVEL


def wilcoxon(differences: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test of paired differences (n,); 1 where all of them are zero.

    It tests whether sum_i sign(d_i) rank(|d_i|) is zero. Zeros take ranks but no side (Pratt). Of up to COUNTED others all ways
    to sign them are counted: SciPy counts zeros among them, and has five wins beside nine zeros at 0.026 in place of 2 / 32.
    """
    from scipy.stats import rankdata
    from scipy.stats import wilcoxon as signed_rank

    values = settled(differences)
    if np.count_nonzero(values) > COUNTED:
        return float(signed_rank(values, zero_method="pratt", method="auto").pvalue)
    ranks = np.rint(2 * rankdata(np.abs(values))).astype(int)  # doubled, so that shared ones are whole
    chances = np.ones(1)  # of every sum of the ranks above zero
    for rank in ranks[values != 0]:
        chances = (np.pad(chances, (rank, 0)) + np.pad(chances, (0, rank))) / 2
    further = max(ranks[values > 0].sum(), ranks[values < 0].sum())
    return min(1.0, float(2 * chances[further:].sum()))


def signed_rank_sum(differences: Sequence[float]) -> float:
    """sum_i sign(d_i) rank(|d_i|) of differences d (n,): its sign is the direction of what `wilcoxon` tests."""
    from scipy.stats import rankdata

    values = settled(differences)
    return float((np.sign(values) * rankdata(np.abs(values))).sum())


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's corrected p-values: below 0.05 they hold together at the 5 % level.

    Of m sorted p-values the k-th becomes max_{j <= k} min(1, (m - j + 1) p_j).
    """
    corrected, highest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}
