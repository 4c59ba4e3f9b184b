"""What the mixture that alphas weigh tells of a search: what each direction adds to it, and what is lost without the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
    recovered = advantage / (advantage + gap) if advantage + gap > 0 else 0.0
    rises, gaps = look_at(module, quick, choices)
    agreement = alpha_agreement(choices, rises)
    findings = (discretisation_gap(gaps, recovered, at_stake=advantage + gap), *([] if agreement is None else [agreement]))
    return Mixture(gap, recovered, None if agreement is None else agreement.value, findings)


def look_at(
    module: nn.Module, evaluate: Evaluate, choices: Sequence[LayerChoice]
) -> tuple[dict[str, dict[str, float]], list[float]]:
    """Return what leaving one direction out costs and the gap for every k, both against the mixture, in one masked pass."""
    mixture, best = mixture_of(module, choices), by_size(module, choices)
    without = left_out(module, choices, mixture)
    whole, *others = losses_of(module, evaluate, [mixture, *without.values(), *best])
    ones, sizes = others[: len(without)], others[len(without) :]
    return rises_of(without, ones, whole), [(losses - whole).mean().item() for losses in sizes]


def leave_one_out(
    module: nn.Module, evaluate: Evaluate, choices: Sequence[LayerChoice], mixture: Mapping[str, Branches]
) -> dict[str, dict[str, float]]:
    """Return {layer: {direction: mean loss increase when it alone is left out of the mixture}}."""
    without = left_out(module, choices, mixture)
    whole, *losses = losses_of(module, evaluate, [mixture, *without.values()])
    return rises_of(without, losses, whole)


def left_out(
    module: nn.Module, choices: Sequence[LayerChoice], mixture: Mapping[str, Branches]
) -> dict[tuple[str, str], Mapping[str, Branches]]:
    """Return the mixture without each direction of each layer that has others, which are scaled up to a sum of 1."""
    ways: dict[tuple[str, str], Mapping[str, Branches]] = {}
    for choice in choices:
        names = surviving(choice.scores)
        for one in names if len(names) > 1 else ():
            rest = remaining(module, choice.name, [n for n in names if n != one], choice.scores)
            ways[choice.name, one] = {**mixture, choice.name: rest}
    return ways


def rises_of(ways: Iterable[tuple[str, str]], losses: Sequence[Tensor], whole: Tensor) -> dict[str, dict[str, float]]:
    """Return {layer: {direction: mean of the losses (n,) without it, less those of the whole mixture}}."""
    rises: dict[str, dict[str, float]] = {}
    for (layer, one), without in zip(ways, losses, strict=True):
        rises.setdefault(layer, {})[one] = (without - whole).mean().item()
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


def by_size(module: nn.Module, choices: Sequence[LayerChoice]) -> list[dict[str, Branches]]:
    """Return, for every k up to the most candidates of a layer, each layer's k most probable directions."""
    most = max(len(surviving(c.scores)) for c in choices)
    best = [{c.name: top_k(c.scores, min(k, len(surviving(c.scores)))).directions for c in choices} for k in range(1, most + 1)]
    return [masked(module, directions) for directions in best]
