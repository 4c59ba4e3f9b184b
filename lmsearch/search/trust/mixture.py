"""What the mixture that alphas weigh tells of a search: what each direction adds to it, and what is lost without the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from lmsearch.genotype import LayerChoice
from lmsearch.search.derivation.choice import surviving, top_k
from lmsearch.search.supernet.masking import Evaluate, losses_of
from lmsearch.search.supernet.network import Branches, masked, remaining
from lmsearch.search.trust.detectors import Finding, discretisation_gap, rank_agreement
from lmsearch.stats.rounding import settled


@dataclass(frozen=True)
class Mixture:
    """What the whole mixture tells, where alphas weigh it: see Health."""

    gap: float | None = None
    recovered: float | None = None
    tau: float | None = None
    findings: tuple[Finding, ...] = ()


def mixture_of(module: nn.Module, choices: Sequence[LayerChoice]) -> dict[str, Branches]:
    """Return the branches that are left, as alphas weigh them; `choices` hold the probabilities."""
    return {c.name: remaining(module, c.name, surviving(c.scores), c.scores) for c in choices}


def mixture_health(
    module: nn.Module, choices: Sequence[LayerChoice], quick: Evaluate, *, advantage: float, gap: float
) -> Mixture:
    """Compare the derived directions, of the given advantage and gap, with the mixture that alphas weigh."""
    mixture = mixture_of(module, choices)
    recovered = advantage / (advantage + gap) if advantage + gap > 0 else 0.0
    part = losses_of(module, quick, [mixture])[0]
    agreement = alpha_agreement(choices, leave_one_out(module, quick, choices, mixture, part))
    gaps = gap_curve(module, quick, choices, part)
    findings = (discretisation_gap(gaps, recovered, at_stake=advantage + gap), *([] if agreement is None else [agreement]))
    return Mixture(gap, recovered, None if agreement is None else agreement.value, findings)


def leave_one_out(
    module: nn.Module,
    evaluate: Evaluate,
    choices: Sequence[LayerChoice],
    mixture: Mapping[str, Branches],
    whole: Tensor,
) -> dict[str, dict[str, float]]:
    """Return {layer: {direction: mean loss increase when it alone is left out}}, the others scaled up to a sum of 1.

    `whole` holds the per-sample losses of the whole `mixture`.
    """
    ways: dict[tuple[str, str], Mapping[str, Branches]] = {}
    for choice in choices:
        names = surviving(choice.scores)
        for left_out in names if len(names) > 1 else ():
            rest = remaining(module, choice.name, [n for n in names if n != left_out], choice.scores)
            ways[choice.name, left_out] = {**mixture, choice.name: rest}
    rises: dict[str, dict[str, float]] = {}
    for (layer, left_out), losses in zip(ways, losses_of(module, evaluate, [*ways.values()]), strict=True):
        rises.setdefault(layer, {})[left_out] = (losses - whole).mean().item()
    return rises


def alpha_agreement(choices: Sequence[LayerChoice], rises: Mapping[str, Mapping[str, float]]) -> Finding | None:
    """Return how alphas agree with leave-one-out losses; None where no layer has two candidates that differ."""
    from scipy.stats import kendalltau  # slow to import

    taus, counts, shares = {}, [], []
    for choice in choices:
        if choice.name not in rises:
            continue
        mine = rises[choice.name]
        tau = kendalltau(settled([choice.scores[n] for n in mine]), settled(list(mine.values()))).statistic
        if not math.isnan(tau):
            taus[choice.name] = float(tau)
            counts.append(len(mine))
        best = sum(sorted((max(r, 0.0) for r in mine.values()), reverse=True)[: len(choice.directions)])
        kept = sum(max(mine[n], 0.0) for n in choice.directions)
        shares.append(kept / best if best > 0 else 1.0)
    return rank_agreement(taus, counts, float(np.mean(shares))) if taus else None


def gap_curve(module: nn.Module, evaluate: Evaluate, choices: Sequence[LayerChoice], whole: Tensor) -> list[float]:
    """Return, for every k up to the most candidates of a layer, the loss of each layer's k most probable minus the whole's."""
    most = max(len(surviving(c.scores)) for c in choices)
    best = [{c.name: top_k(c.scores, min(k, len(surviving(c.scores)))).directions for c in choices} for k in range(1, most + 1)]
    found = losses_of(module, evaluate, [masked(module, directions) for directions in best])
    return [(losses - whole).mean().item() for losses in found]
