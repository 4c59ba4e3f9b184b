"""The known ways in which a search goes wrong, each as a pure function from measurements to a Finding.

Measuring is the business of health.py (losses), gradients.py (curvature, gradients) and consensus.py (several seeds).
K candidates and k kept directions of a layer; L layers; probabilities of 0 mark candidates dropped during the search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lmsearch.errors import ModelError
from lmsearch.scan.directions import label
from lmsearch.stats import sequential
from lmsearch.stats.digits import beside
from lmsearch.status import Level

# The first three were fixed on planted tasks and their controls, seeds 0 to 7 (experiments/e1_planted).
ENTROPY_UNIFORM = 0.95  # normalised entropy above which alphas have not left uniform
Z_REQUIRED = sequential.LEVEL  # standard errors by which the derived directions must beat random ones
RECOVERED_REQUIRED = 0.8  # share of the way from random directions to the whole mixture that the derived ones must go
ENTROPY_OVER_SEEDS = 0.99  # the same as ENTROPY_UNIFORM, for the mean over seeds, where a margin below seed noise says more
LEVEL = 0.05  # of one-sided tests
Z_LEVEL = 1.645  # one-sided normal quantile of LEVEL
USEFUL_SHARE = 0.5  # of the leave-one-out loss of the k most useful directions that the kept ones must carry
SHARPNESS_RISE, WINDOWS = 1.3, 4  # RobustDARTS' kind of early stop: largest eigenvalue over four measurements
COSINE_LEAST, GENERALISATION = 0.4, 1.2  # OLES' threshold; held-out over training loss from which weights memorise


@dataclass(frozen=True)
class Finding:
    """What one detector says: the measured value, whether it is a warning, what it means, and what to try then."""

    name: str
    value: Any
    level: Level
    meaning: str
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for genotype.json."""
        return asdict(self) | {"level": str(self.level)}


def finding(name: str, value: Any, warns: bool, meaning: str, advice: str) -> Finding:
    """Return a Finding; advice is given with a warning only."""
    return Finding(name, value, Level.WARNING if warns else Level.OK, meaning, advice if warns else "")


def normalised_entropy(scores: Mapping[str, float]) -> float:
    """Entropy of a layer's probabilities over the log of its candidates: 1 for uniform, 0 for a sure or an only choice."""
    left = [p for p in scores.values() if p > 0]
    if len(left) < 2:
        return 0.0
    return -sum(p * math.log(p) for p in left) / math.log(len(left))


def near_uniform(entropies: Mapping[str, float]) -> Finding:
    """Alphas that never left uniform choose by chance. Value: mean normalised entropy over layers."""
    mean = float(np.mean(list(entropies.values())))
    warns = mean > ENTROPY_UNIFORM
    told = beside(mean, ENTROPY_UNIFORM, 3, "g")
    exact = "" if told == f"{mean:.3g}" else f"; it is {told}"
    meaning = f"of the alphas, mean over layers; 1 is uniform (at most {ENTROPY_UNIFORM}{exact})"
    return finding("entropy", mean, warns, meaning, "a larger search.alpha_lr, more epochs, search.alpha_warmup_epochs")


def near_uniform_over_seeds(per_seed: Sequence[Mapping[str, Mapping[str, float]]], keep: Sequence[int]) -> Finding:
    """Near-uniform alphas whose choice is within seed noise. Value: share of the layers where both hold, of those that choose.

    In such a layer the mean entropy is above 0.99 and the gap between the k-th and the next mean probability is smaller than
    the standard deviation of the two candidates' probabilities over seeds.
    """
    poor = []
    for layer, k in zip(per_seed[0], keep, strict=True):
        table = np.array([list(scores[layer].values()) for scores in per_seed])  # (seeds, K)
        if k >= table.shape[1]:
            continue
        order = np.argsort(-table.mean(0), kind="stable")
        gap = table.mean(0)[order[k - 1]] - table.mean(0)[order[k]]
        noise = table[:, order[k - 1 : k + 1]].std(0, ddof=1).mean()
        entropy = np.mean([normalised_entropy(scores[layer]) for scores in per_seed])
        poor.append(bool(entropy > ENTROPY_OVER_SEEDS and gap < noise))
    share = float(np.mean(poor)) if poor else 0.0
    meaning = "share of layers with near-uniform alphas whose margin is below the spread over seeds (at most half)"
    return finding("margin over seeds", share, share > 0.5, meaning, "a larger search.alpha_lr, more epochs, more seeds")


def beats_random(advantage: float, z: float) -> Finding:
    """Derived directions no better than random ones. Value: mean held-out loss of random ones minus theirs."""
    meaning = f"held-out loss saved against random directions: {beside(z, Z_REQUIRED)} standard errors (at least {Z_REQUIRED:g})"
    advice = "more epochs; the directions may not matter for these data"
    return finding("advantage", advantage, not z >= Z_REQUIRED, meaning, advice)  # nan is not above it either


def beats_random_afresh(advantage: float, z: float) -> Finding:
    """Derived directions no better than random ones where all were trained alike. Value: the loss that they save there."""
    meaning = (
        f"held-out loss saved against random directions in fresh supernets that train all alike: {beside(z, Z_REQUIRED)} "
        f"standard errors (at least {Z_REQUIRED:g})"
    )
    advice = "more epochs, a larger search.recheck; the directions may not matter for these data"
    return finding("recheck", advantage, not z >= Z_REQUIRED, meaning, advice)


def discretisation_gap(gaps: Sequence[float], recovered: float, *, at_stake: float) -> Finding:
    """Directions that miss what the mixture does. Value: gaps[k-1] = loss of the k best of every layer minus the mixture's.

    `at_stake` is the loss of random directions minus the mixture's, `recovered` the share of it that the derived ones win back.
    """
    enough = [k for k, g in enumerate(gaps, start=1) if g <= (1 - RECOVERED_REQUIRED) * at_stake]
    more = f"keep={enough[0]} would be enough" if enough else "no number of directions is enough without the mixture's weights"
    meaning = (
        f"loss added by the k best alone, k = 1..{len(gaps)}; the derived ones recover "
        f"{beside(recovered, RECOVERED_REQUIRED, 0, '%')} of the mixture (at least {RECOVERED_REQUIRED:.0%})"
    )
    advice = f"{more}; search.derivation=perturbation, or retrain and compare"
    return finding("discretisation gap", list(gaps), recovered < RECOVERED_REQUIRED, meaning, advice)


def rank_agreement(taus: Mapping[str, float], counts: Sequence[int], useful: float) -> Finding:
    """Alphas that do not rank by usefulness. Value: Kendall's tau of alphas and leave-one-out loss, mean over layers.

    `counts` holds the candidates of each of those layers, `useful` the share of the leave-one-out loss of the k most useful
    directions that the kept ones carry. Few layers leave tau to chance, so a warning needs both to be poor.
    """
    tau = float(np.mean(list(taus.values())))
    error = math.sqrt(sum(2 * (2 * k + 5) / (9 * k * (k - 1)) for k in counts)) / len(counts)
    warns = tau < Z_LEVEL * error and useful < USEFUL_SHARE
    meaning = (
        f"rank correlation of alphas and leave-one-out loss (chance: 0 +- {error:.2f}); the kept ones carry "
        f"{beside(useful, USEFUL_SHARE, 0, '%')} of what k can (at least {USEFUL_SHARE:.0%}, or tau above chance)"
    )
    return finding("usefulness", tau, warns, meaning, "search.derivation=perturbation")


def sharpness(eigenvalues: Sequence[float]) -> Finding:
    """A search that ends in a sharp optimum of the alphas. Value: largest eigenvalue of their Hessian, per measurement.

    Warns where the last of four measurements is the highest and more than 1.3 times the first (positive) one.
    """
    last = list(eigenvalues)[-WINDOWS:]
    warns = len(last) == WINDOWS and last[0] > 0 and last[-1] == max(last) and last[-1] > SHARPNESS_RISE * last[0]
    meaning = f"curvature of the loss in the alphas over the epochs (a rise to at most {SHARPNESS_RISE} times)"
    return finding("sharpness", list(eigenvalues), warns, meaning, "fewer epochs, a smaller search.alpha_lr")


def memorising(cosine: float, share_low: float, train_loss: float, holdout_loss: float) -> Finding:
    """Weights that memorise, and choices that follow. Value: mean cosine of a branch's training and held-out gradients.

    `share_low` is the share of branches below 0.4. Gradients near the end of a good training are noise as well, so a warning
    also needs a held-out loss clearly above that on training samples (augmented ones), both without label smoothing or mixing.
    """
    warns = share_low > 0.5 and holdout_loss > GENERALISATION * train_loss
    meaning = (
        f"cosine of training and held-out gradients, {beside(share_low, 0.5, 0, '%')} of branches below {COSINE_LEAST}; "
        f"losses {train_loss:.3g} and {holdout_loss:.3g} (at most half, or losses within {GENERALISATION} times)"
    )
    advice = "more data or augmentation, fewer epochs; where alphas learn, search=fair"
    return finding("memorisation", cosine, warns, meaning, advice)


def duplicate_candidates(twins: Mapping[str, Mapping[str, str]]) -> Finding:
    """Candidates that visit a layer's grid alike share one vote between them. Value: {layer: {candidate: its twin}}."""
    found = {layer: {label(a): label(b) for a, b in pairs.items()} for layer, pairs in twins.items() if pairs}
    meaning = "candidates that visit the tokens in the same order (none)"
    return finding("duplicates", found, bool(found), meaning, "search.deduplicate=true")


def one_candidate_everywhere(kept: Sequence[Sequence[str]], candidates: Sequence[Sequence[str]]) -> Finding:
    """One candidate that wins in more layers than chance explains. Value: {candidate: layers that keep it}.

    The null keeps k of K in every layer at random; the exact tail is corrected for the number of candidates (Bonferroni).
    """
    names = list(dict.fromkeys(name for layer in candidates for name in layer))
    counts = {name: sum(name in layer for layer in kept) for name in names}
    tails = {}
    for name in names:
        chances = [len(k) / len(c) for k, c in zip(kept, candidates, strict=True) if name in c]
        tails[name] = min(1.0, len(names) * tail(chances, counts[name]))
    worst = min(tails, key=lambda name: (tails[name], -counts[name]))
    told = f"{label(worst)} has p = {beside(tails[worst], LEVEL, 2, 'g')} (at least {LEVEL})"
    meaning = f"layers of {len(kept)} that keep each candidate; {told}"
    advice = "search data=planted data.task=token_mean as a control: a winner there is the optimiser's, not the data's"
    return finding("histogram", {label(name): count for name, count in counts.items()}, tails[worst] < LEVEL, meaning, advice)


def tail(chances: Sequence[float], least: int) -> float:
    """Probability of at least `least` successes among independent trials with these chances."""
    distribution = np.ones(1)
    for p in chances:
        distribution = np.convolve(distribution, [1 - p, p])
    return float(distribution[least:].sum())


def check_disjoint(weights: Sequence[Any], alphas: Sequence[Any]) -> None:
    """Raise ModelError where an optimizer of weights and that of the alphas (each a list of parameters) share a parameter.

    The weights' optimizer would pull shared alphas back to uniform by its decay.
    """
    shared = {id(p) for p in weights} & {id(p) for p in alphas}
    if shared:
        raise ModelError(f"{len(shared)} parameters are in the optimizers of both weights and alphas; each belongs to one")
