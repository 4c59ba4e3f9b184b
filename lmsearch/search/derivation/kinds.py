"""The ways from a trained supernet to a choice, by name: what each does and, in its record, what a verdict must know of it.

keep[l] of candidates[l] directions stay in layer l.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from lmsearch.data import SearchLoaders, spread
from lmsearch.data.batch import Batch
from lmsearch.data.info import HeldOut
from lmsearch.errors import ConfigError, did_you_mean
from lmsearch.genotype import LayerChoice
from lmsearch.search.architects.kinds import ArchitectKind, architect_kind
from lmsearch.search.derivation.choice import Probabilities, Quota, choose, quota_of
from lmsearch.search.derivation.climb import CLIMB_SAMPLES, derive_climb, expected_choices
from lmsearch.search.derivation.halving import HALVING_SAMPLES, READ_BYTES, derive_halving, share_measured
from lmsearch.search.derivation.perturbation import branches_run, derive_perturbation
from lmsearch.search.discrete.budget import evaluation_cost
from lmsearch.search.supernet.masking import Evaluate
from lmsearch.stats.sequential import looks

LEAST_HELD, MOST_HELD = 0.2, 0.5  # of a training set, where the derivation says how much
LEAST_BATCHES = 2  # that train in an epoch, unless they would be fewer with LEAST_HELD too
Part = TypeVar("Part")
Derived = tuple[tuple[LayerChoice, ...], dict[str, Any]]


@dataclass(frozen=True)
class DerivationKind:
    """One way to choose directions.

    derive(module, probabilities, evaluate, quota, seed) returns each layer's choice, whose scores sum to 1, and how it was
    made. evaluate scores the same held-out samples every time, all at once or part by part. Without uses_holdout it looks at
    the probabilities alone: module and evaluate may be None.
    branches(keep, candidates) counts the branch scans that masking takes for one held-out sample, about.
    """

    name: str
    derive: Callable[[nn.Module | None, Probabilities, Evaluate | None, Quota, int], Derived]
    branches: Callable[[Sequence[int], Sequence[int]], int]
    uses_holdout: bool  # True: held-out samples decide on directions, so the verdict needs others
    needs_alphas: bool  # True: probabilities that no alphas learned give it nothing to choose by
    takes_budget: bool  # False: it keeps a number of directions per layer
    samples: int | None  # held-out ones that it masks on, at most; None: all of them
    in_parts: bool  # True: it looks at them part by part, and most networks at few
    runs_mixtures: bool  # True: masked supernets run mixtures of many branches; False: as many as are kept
    own_scores: str | None  # what the scores of its choices are called; None: they are the probabilities

    def networks(self, keep: Sequence[int], candidates: Sequence[int]) -> float:
        """Return how many networks it scores, about."""
        return self.branches(keep, candidates) / sum(candidates if self.runs_mixtures else keep)

    def cost(self, keep: Sequence[int], candidates: Sequence[int], *, held: int, batch_size: int) -> float:
        """Return the branch-scan steps that it takes, about, where so many samples are held out."""
        branches = self.branches(keep, candidates)
        return evaluation_cost(round(self.looked_at(held, keep, candidates)), batch_size=batch_size, branches=branches)

    def share_of(self, samples: int | None, *, batch_size: int, sample_bytes: int) -> float:
        """Return the share of so many training samples to hold out: as many as it can use, within bounds. None: of a stream."""
        if not samples or self.samples is None:
            return LEAST_HELD
        used = min(self.samples, READ_BYTES // max(1, sample_bytes)) if self.in_parts else self.samples
        most = min(MOST_HELD, 1 - LEAST_BATCHES * batch_size / samples)
        return max(LEAST_HELD, min(most, used / samples))

    def looked_at(self, held: int, keep: Sequence[int], candidates: Sequence[int]) -> float:
        """Return the samples that it scores of one network, on average, about, where so many are held out."""
        taken = held if self.samples is None else min(self.samples, held)
        if not self.in_parts:
            return taken
        ways = 1 + sum(k * (total - k) for k, total in zip(keep, candidates, strict=True)) // max(1, len(keep))
        return taken * share_measured([len(part) for part in looks(taken, seed=0)], ways)


def topk(module: nn.Module | None, probabilities: Probabilities, evaluate: Evaluate | None, quota: Quota, seed: int) -> Derived:
    """Take the most probable directions."""
    return choose(probabilities, quota_of(quota, probabilities)), {"method": "topk"}


def perturbation(
    module: nn.Module | None, probabilities: Probabilities, evaluate: Evaluate | None, quota: Quota, seed: int
) -> Derived:
    """Drop, one by one, the direction whose absence matters least."""
    return derive_perturbation(given(module), probabilities, given(evaluate), quota)


def climb(module: nn.Module | None, probabilities: Probabilities, evaluate: Evaluate | None, quota: Quota, seed: int) -> Derived:
    """Swap directions while the loss falls, from where `seed` starts."""
    return derive_climb(given(module), probabilities, given(evaluate), quota, seed=seed)


def halving(
    module: nn.Module | None, probabilities: Probabilities, evaluate: Evaluate | None, quota: Quota, seed: int
) -> Derived:
    """Swap directions while the loss falls, and measure on all samples what may be best."""
    return derive_halving(given(module), probabilities, given(evaluate), quota, seed=seed)


def given(part: Part | None) -> Part:
    """Return the supernet or the samples that a derivation looks at; raise ValueError where they are not there."""
    if part is None:
        raise ValueError("a derivation that uses held-out samples needs a supernet and a function that evaluates it")
    return part


def climb_branches(keep: Sequence[int], candidates: Sequence[int]) -> int:
    """Return the branches of all choices that a climb measures."""
    return expected_choices(keep, candidates) * sum(keep)


DERIVATIONS = {
    kind.name: kind
    for kind in (
        DerivationKind(
            "topk", topk, lambda *_: 0, uses_holdout=False, needs_alphas=True, takes_budget=True, samples=None,
            in_parts=False, runs_mixtures=False, own_scores=None,
        ),
        DerivationKind(
            "perturbation", perturbation, branches_run, uses_holdout=True, needs_alphas=False, takes_budget=True, samples=None,
            in_parts=False, runs_mixtures=True, own_scores=None,
        ),
        DerivationKind(
            "climb", climb, climb_branches, uses_holdout=True, needs_alphas=False, takes_budget=False, samples=CLIMB_SAMPLES,
            in_parts=False, runs_mixtures=False, own_scores="share of worth, by swaps",
        ),
        DerivationKind(
            "halving", halving, climb_branches, uses_holdout=True, needs_alphas=False, takes_budget=False,
            samples=HALVING_SAMPLES, in_parts=True, runs_mixtures=False, own_scores="share of worth, by swaps",
        ),
    )
}  # fmt: skip


BY_ALPHAS = "topk"  # what takes the most probable directions


def by_alphas(name: str, dominant: str) -> str:
    """Return the derivation of a search for which `name` is set: alphas decide where a direction was found to dominate."""
    return BY_ALPHAS if dominant else name


def told_of(how: dict[str, Any], dominant: str) -> dict[str, Any]:
    """Return how a choice was made, with the direction that was found to dominate, if any."""
    return how | ({"dominant": dominant} if dominant else {})


def derivation_kind(name: str) -> DerivationKind:
    """Return the derivation `name`; raise ConfigError for any other text."""
    if name not in DERIVATIONS:
        raise ConfigError(f"derivation={name!r} is not accepted{did_you_mean(name, DERIVATIONS)}")
    return DERIVATIONS[name]


def derive(
    name: str,
    probabilities: Probabilities,
    quota: Quota,
    *,
    seed: int,
    module: nn.Module | None = None,
    evaluate: Evaluate | None = None,
) -> Derived:
    """Return each layer's choice by the derivation `name`, and how it was made, as genotype.json records it."""
    choices, how = derivation_kind(name).derive(module, probabilities, evaluate, quota, seed)
    return choices, how if quota.budget is None else how | {"budget": quota.budget}


def saw_holdout(derivation: str, architect: str | ArchitectKind) -> bool:
    """True where the held-out samples decided on directions, so that a test needs others."""
    return derivation_kind(derivation).uses_holdout or architect_kind(architect).uses_holdout


def unseen_part(loaders: SearchLoaders, derivation: str, architect: str | ArchitectKind) -> HeldOut | None:
    """Return the samples that test a choice: the held-out ones, or the validation set where those had a part in it."""
    return loaders.val if saw_holdout(derivation, architect) else loaders.holdout


def samples_for(derivation: str, holdout: HeldOut, *, samples: int | None = None) -> Iterable[Batch]:
    """Return the held-out samples that a derivation masks on: `samples` of them, or as many as it usually takes."""
    number = derivation_kind(derivation).samples if samples is None else samples
    return holdout if number is None else [spread(holdout, number)]


def own_scores(method: str | None) -> str | None:
    """Return what a derivation's own scores are called; None where scores are probabilities, and for any other method."""
    return DERIVATIONS[method].own_scores if method in DERIVATIONS else None


def shares_by_losses(method: str | None) -> bool:
    """Tell whether held-out losses, not probabilities, are a derivation's margins and give a total budget to the layers."""
    return method in DERIVATIONS and DERIVATIONS[method].uses_holdout
