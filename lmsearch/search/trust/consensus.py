"""One genotype from several seeds: what they agree on, layer by layer, and whether they agree more than chance would.

S seeds; K candidates and k kept directions of a layer; L layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from lmsearch.errors import GenotypeError
from lmsearch.genotype import Genotype, LayerChoice
from lmsearch.search.derivation.choice import Quota, check_keep, quota_of, surviving
from lmsearch.search.derivation.kinds import DERIVATIONS, own_scores, shares_by_losses
from lmsearch.search.trust.detectors import (
    LEVEL,
    Finding,
    finding,
    near_uniform,
    near_uniform_over_seeds,
    normalised_entropy,
    one_candidate_everywhere,
)
from lmsearch.stats.digits import beside
from lmsearch.stats.rounding import settled
from lmsearch.status import PASSED, Status

DRAWS = 10_000  # simulated sets of seeds under the null of the agreement test
NULL_SEED = 20261
TIE = 1e-3  # weight of a score beside a vote, of which there is at least one whole


@dataclass(frozen=True)
class Stability:
    """How far the seeds agree on one layer: mean overlap (Jaccard) of two seeds' kept sets, what chance gives, and votes."""

    jaccard: float
    chance: float
    votes: dict[str, int]


def jaccard(a: Sequence[str], b: Sequence[str]) -> float:
    """Size of the intersection over size of the union."""
    return len(set(a) & set(b)) / len(set(a) | set(b))


def chance_jaccard(k1: int, k2: int, candidates: int) -> float:
    """Exact mean Jaccard overlap of two independent random subsets of sizes k1 and k2."""
    total = comb(candidates, k2)
    shared = range(max(0, k1 + k2 - candidates), min(k1, k2) + 1)
    return sum(comb(k1, j) * comb(candidates - k1, k2 - j) / total * j / (k1 + k2 - j) for j in shared)


def stability(kept: Sequence[Sequence[str]], candidates: Sequence[str]) -> Stability:
    """Return the stability of one layer from the set that each of S >= 2 seeds kept."""
    pairs = list(combinations(kept, 2))
    votes = Counter(name for directions in kept for name in directions)
    return Stability(
        jaccard=sum(jaccard(a, b) for a, b in pairs) / len(pairs),
        chance=sum(chance_jaccard(len(a), len(b), len(candidates)) for a, b in pairs) / len(pairs),
        votes={name: votes[name] for name in candidates},
    )


def agreement_p(sizes: Sequence[Sequence[int]], candidates: Sequence[int], observed: float) -> float | None:
    """One-sided p-value of the mean overlap over layers, against random subsets in every layer and seed.

    sizes[l] holds how many of candidates[l] directions each seed kept in layer l. Layers where every seed keeps everything
    choose nothing and do not count: `observed` is the mean over the others; None where there are none. Simulated with 10 000
    draws of a fixed seed.
    """
    rng = np.random.default_rng(NULL_SEED)
    layers = []
    for kept, total in zip(sizes, candidates, strict=True):
        if min(kept) == total:
            continue
        ranks = rng.random((DRAWS, len(kept), total)).argsort(axis=-1).argsort(axis=-1)
        chosen = ranks < np.array(kept)[:, None]  # (draws, seeds, K)
        overlaps = [
            (chosen[:, a] & chosen[:, b]).sum(-1) / (chosen[:, a] | chosen[:, b]).sum(-1)
            for a, b in combinations(range(len(kept)), 2)
        ]
        layers.append(np.mean(overlaps, axis=0))
    if not layers:
        return None
    as_high = np.mean(layers, axis=0) >= observed - 1e-12
    return float((1 + as_high.sum()) / (1 + DRAWS))


def by_votes(scores: Mapping[str, float], votes: Mapping[str, int], seeds: int) -> dict[str, float]:
    """Return votes as what a budget is allocated by (quota_of): a vote counts alike in every layer; in a tie scores decide."""
    candidates = len(surviving(scores))
    return {name: (votes[name] + TIE * score) / (seeds * candidates) for name, score in scores.items()}


def vote(layer: str, scores: Mapping[str, float], votes: Mapping[str, int], keep: int, seeds: int) -> LayerChoice:
    """Keep the directions with the most votes; of equal ones that of the higher mean score, then the earlier candidate.

    The margin is the lead in votes of the last one kept over the best one not kept, as a share of the seeds.
    """
    check_keep(keep, surviving(scores), layer)
    ranked = sorted(surviving(scores), key=lambda name: (-votes[name], -scores[name]))
    kept = set(ranked[:keep])
    margin = (votes[ranked[keep - 1]] - votes[ranked[keep]]) / seeds if keep < len(ranked) else None
    return LayerChoice(tuple(name for name in scores if name in kept), layer, dict(scores), margin)


def check_alike(genotypes: Sequence[Genotype], names: Sequence[str]) -> None:
    """Raise GenotypeError unless the genotypes carry scores of the same candidates, layer by layer."""
    if len(genotypes) < 2:
        raise GenotypeError(f"a consensus needs at least 2 genotypes; got {len(genotypes)}")
    runs = [genotype.provenance.get("run_sha256") for genotype in genotypes]
    for number, run in enumerate(runs):
        if run is not None and run in runs[:number]:
            raise GenotypeError(f"{names[number]}: the same search as {names[runs.index(run)]}; give each seed once")
    first = [tuple(layer.scores) for layer in genotypes[0].layers]
    for genotype, name in zip(genotypes, names, strict=True):
        if (method := genotype.derivation.get("method")) not in (None, *DERIVATIONS):
            accepted = ", ".join(DERIVATIONS)
            raise GenotypeError(f"{name}: derived by {method!r}; a consensus needs searches with a supernet ({accepted})")
        if not all(layer.scores for layer in genotype.layers):
            raise GenotypeError(f"{name}: the genotype has no scores of its candidates; a consensus needs those of searches")
        if [set(layer.scores) for layer in genotype.layers] != [set(candidates) for candidates in first]:
            raise GenotypeError(f"{name}: its layers or candidates are not those of {names[0]}")


def common_quota(genotypes: Sequence[Genotype]) -> Quota:
    """Return how many directions the searches kept; raise GenotypeError where they differ."""
    budgets = {genotype.derivation.get("budget") for genotype in genotypes}
    if budgets != {None} and len(budgets) == 1:
        return Quota(budget=budgets.pop())
    keeps = {tuple(len(layer.directions) for layer in genotype.layers) for genotype in genotypes}
    if len(keeps) > 1:
        raise GenotypeError(f"the genotypes keep different numbers of directions ({sorted(keeps)}); set keep= or budget=")
    return Quota(keep=keeps.pop())


def mean_scores(genotypes: Sequence[Genotype]) -> dict[str, dict[str, float]]:
    """Return {layer: {candidate: mean score over seeds}}, in the order of the first genotype; an unnamed layer has its number."""
    means = {}
    for number, layer in enumerate(genotypes[0].layers):
        rows = [genotype.layers[number].scores for genotype in genotypes]
        mean = {c: float(np.mean([row[c] for row in rows])) for c in layer.scores}
        means[layer.name or str(number)] = {c: float(settled([value])[0]) for c, value in mean.items()}
    return means


def consensus(genotypes: Sequence[Genotype], quota: Quota) -> tuple[tuple[LayerChoice, ...], dict[str, Any]]:
    """Return the layers' choices and the health of the consensus (status, reason, stability, findings)."""
    seeds = len(genotypes)
    means = mean_scores(genotypes)
    kept = {name: [g.layers[n].directions for g in genotypes] for n, name in enumerate(means)}
    stable = {name: stability(kept[name], list(scores)) for name, scores in means.items()}
    # without alphas, scores are what masking told, not probabilities that alphas learned
    learned = all("entropy" in g.health and own_scores(g.derivation.get("method")) is None for g in genotypes)
    by_means = learned and not any(shares_by_losses(g.derivation.get("method")) for g in genotypes)
    wanted = means if by_means else {name: by_votes(scores, stable[name].votes, seeds) for name, scores in means.items()}
    choices = tuple(
        vote(name, scores, stable[name].votes, k, seeds)
        for (name, scores), k in zip(means.items(), quota_of(quota, wanted), strict=True)
    )
    open_layers = [n for n in means if min(map(len, kept[n])) < len(means[n])]
    observed = float(np.mean([stable[n].jaccard for n in open_layers])) if open_layers else 1.0
    chance = float(np.mean([stable[n].chance for n in open_layers])) if open_layers else 1.0
    p = agreement_p([[len(d) for d in kept[n]] for n in means], [len(s) for s in means.values()], observed)
    statuses = Counter(str(g.health.get("status", Status.NOT_TESTED)) for g in genotypes)
    status, reason = seeds_verdict(seeds, statuses, observed, chance, p)
    if status in PASSED and not as_many_as_a_seed(choices, genotypes, quota):
        status, reason = Status.NOT_TESTED, f"{reason}; but the seeds kept other numbers of directions than are kept here"
    entropies = {name: normalised_entropy(scores) for name, scores in means.items()} if learned else {}
    per_seed = [{name: g.layers[n].scores for n, name in enumerate(means)} for g in genotypes]
    per_seed = [{name: {c: row[name][c] for c in means[name]} for name in means} for row in per_seed]
    findings = [
        *([near_uniform(entropies), near_uniform_over_seeds(per_seed, [len(c.directions) for c in choices])] if learned else []),
        one_candidate_everywhere([c.directions for c in choices], [tuple(c.scores) for c in choices]),
        *([] if p is None else [seeds_agree(observed, chance, p)]),
    ]
    health = {
        "status": str(status), "reason": reason, "seeds": seeds, "statuses": dict(statuses),
        "agreement": observed, "agreement_chance": chance, "agreement_p": p,
        "stability": {n: {"jaccard": s.jaccard, "chance": s.chance, "votes": s.votes} for n, s in stable.items()},
        "entropy": float(np.mean(list(entropies.values()))) if learned else None, "entropies": entropies or None,
        "findings": [f.to_dict() for f in findings],
    }  # fmt: skip
    return choices, {key: value for key, value in health.items() if value is not None}


def as_many_as_a_seed(choices: Sequence[LayerChoice], genotypes: Sequence[Genotype], quota: Quota) -> bool:
    """Tell whether some seed kept as many directions in every layer or, under a budget, over all layers."""
    mine = [len(c.directions) for c in choices]
    counts = [[len(layer.directions) for layer in genotype.layers] for genotype in genotypes]
    return mine in counts or (quota.budget is not None and sum(mine) in map(sum, counts))


def seeds_agree(observed: float, chance: float, p: float) -> Finding:
    """Seeds that agree no more than random choices would. Value: mean Jaccard overlap of two seeds' kept directions."""
    meaning = f"overlap of two seeds' directions, {chance:.2f} by chance, p = {beside(p, LEVEL, 2, 'g')} (below {LEVEL})"
    return finding("agreement", observed, p >= LEVEL, meaning, "more seeds, more epochs; the directions may not matter here")


def seeds_verdict(seeds: int, statuses: Mapping[str, int], observed: float, chance: float, p: float | None) -> tuple[Status, str]:
    """Return (status, one sentence): "ok" where the seeds agree above chance and most of them are ok themselves."""
    agreement = f"two seeds' directions overlap by {observed:.2f}, {chance:.2f} by chance"
    if p is not None and p >= LEVEL:
        return Status.INDETERMINATE, f"the seeds do not agree above chance ({agreement}, p = {beside(p, LEVEL, 2, 'g')})"
    if statuses.get(Status.INDETERMINATE, 0) >= seeds / 2:
        return Status.INDETERMINATE, f"{statuses[Status.INDETERMINATE]} of {seeds} seeds are indeterminate ({agreement})"
    ok, unconfirmed = statuses.get(Status.OK, 0), statuses.get(Status.UNCONFIRMED, 0)
    if ok <= seeds / 2 < ok + unconfirmed:
        return Status.UNCONFIRMED, f"the seeds agree ({agreement}), but {unconfirmed} of {seeds} were not rechecked"
    if ok <= seeds / 2:
        return Status.NOT_TESTED, f"{ok} of {seeds} seeds passed the tests on held-out data ({agreement})"
    told = agreement if p is None else f"{agreement}, p = {beside(p, LEVEL, 2, 'g')}"
    return Status.OK, f"{ok} of {seeds} seeds are ok and they agree ({told})"
