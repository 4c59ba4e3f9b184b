"""From probabilities to a choice: every layer keeps its k most probable directions, or the net shares a budget of them.

`scores` maps a layer's candidates to probabilities; one of probability 0 was dropped during the search and is no candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmsearch.errors import SearchSpaceError
from lmsearch.genotype import Genotype, LayerChoice
from lmsearch.genotype_schema import DIGITS
from lmsearch.scan.directions import label

Probabilities = Mapping[str, Mapping[str, float]]
RESOLUTION = 1e9  # values of an allocation are compared in whole multiples of 1 / RESOLUTION, so that ties are exact


@dataclass(frozen=True)
class Quota:
    """How many directions are kept: `keep` in each layer, or `budget` over the whole net (exactly one of the two is set)."""

    keep: tuple[int, ...] | None = None
    budget: int | None = None

    @property
    def shared(self) -> int:
        """The directions that the layers share; raises ValueError where each has a number of its own."""
        if self.budget is None:
            raise ValueError(f"{self} has no budget that layers could share")
        return self.budget


def surviving(scores: Mapping[str, float]) -> tuple[str, ...]:
    """Return the candidates that were not dropped during the search, in candidate order."""
    return tuple(name for name, p in scores.items() if p > 0)


def top_k(scores: Mapping[str, float], keep: int) -> LayerChoice:
    """Keep the `keep` best-scored candidates, listed in candidate order; of equal ones the earlier candidate wins.

    The margin is the score of the last direction kept minus that of the best one not kept (None when there is none).
    """
    ranked = sorted(surviving(scores), key=lambda name: -scores[name])  # stable: ties keep candidate order
    kept = set(ranked[:keep])
    margin = scores[ranked[keep - 1]] - scores[ranked[keep]] if keep < len(ranked) else None
    return LayerChoice(tuple(name for name in scores if name in kept), "", dict(scores), margin)


def choose(probabilities: Probabilities, keep: Sequence[int]) -> tuple[LayerChoice, ...]:
    """Return each layer's choice; raise SearchSpaceError where a layer has fewer candidates than it should keep."""
    choices = []
    for (layer, scores), k in zip(probabilities.items(), keep, strict=True):
        check_keep(k, surviving(scores), layer)
        choice = top_k(scores, k)
        choices.append(LayerChoice(choice.directions, layer, choice.scores, choice.margin))
    return tuple(choices)


def kept(choices: Sequence[LayerChoice]) -> tuple[tuple[str, ...], ...]:
    """Return the directions of every layer's choice."""
    return tuple(choice.directions for choice in choices)


def check_keep(keep: int, candidates: Sequence[str], layer: str) -> None:
    """Raise SearchSpaceError unless a layer can keep `keep` of `candidates`."""
    if not 1 <= keep <= len(candidates):
        names = ", ".join(map(label, candidates))
        raise SearchSpaceError(f"keep={keep} is not between 1 and the {len(candidates)} distinct candidates of {layer}: {names}")


def check_budget(budget: int, counts: Sequence[int]) -> None:
    """Raise SearchSpaceError unless `budget` gives each layer at least one and at most its number of candidates."""
    if not len(counts) <= budget <= sum(counts):
        raise SearchSpaceError(
            f"budget={budget} cannot be shared by {len(counts)} layers with {sum(counts)} distinct candidates; "
            f"accepted: {len(counts)} to {sum(counts)} directions in total"
        )


def quota_of(quota: Quota, probabilities: Probabilities) -> tuple[int, ...]:
    """Return how many directions each layer keeps.

    A budget goes where the probabilities ask for it: it maximises the sum of p * K over the directions kept, K being the
    layer's number of candidates, so that a candidate counts by how far it stands above that layer's chance level.
    """
    if quota.keep is not None:
        return quota.keep
    values = []
    for scores in probabilities.values():
        lifts = sorted((scores[name] * len(surviving(scores)) for name in surviving(scores)), reverse=True)
        values.append([sum(lifts[: k + 1]) for k in range(len(lifts))])
    return allocate(values, quota.shared)


def planned(quota: Quota, counts: Sequence[int]) -> tuple[int, ...]:
    """Return how many directions each layer is expected to keep before anything is known: a budget is shared evenly.

    `counts` are the layers' numbers of candidates. A search that leaves each layer so many can spend the whole budget.
    """
    return quota.keep or allocate([[0.0] * count for count in counts], quota.shared)


def allocate(values: Sequence[Sequence[float]], budget: int) -> tuple[int, ...]:
    """Return the number of directions per layer, `budget` in total and at least 1 each, of the greatest total value.

    values[l][k - 1] is what keeping k directions is worth in layer l. Exact, by dynamic programming over layers. Of equal
    totals the most even allocation wins, then the one that gives more to earlier layers.
    """
    check_budget(budget, [len(v) for v in values])
    best: dict[int, tuple[int, int, tuple[int, ...]]] = {0: (0, 0, ())}  # directions spent: (value, evenness, per layer)
    for layer in values:
        grown: dict[int, tuple[int, int, tuple[int, ...]]] = {}
        for spent, (value, evenness, keep) in best.items():
            for k, worth in enumerate(layer, start=1):
                entry = (value + round(worth * RESOLUTION), evenness - k * k, (*keep, k))
                if spent + k <= budget and entry > grown.get(spent + k, entry[:0]):
                    grown[spent + k] = entry
        best = grown
    return best[budget][2]


def visible(score: float) -> float:
    """Return a probability that does not round to 0 in a file, where 0 says that a candidate was dropped."""
    return max(score, 10.0**-DIGITS) if 0 < score else score


def make_genotype(
    choices: Sequence[LayerChoice],
    *,
    derivation: Mapping[str, Any],
    model: str,
    search_space: str,
    health: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Genotype:
    """Return the genotype of `choices`, with how they were made and how sure they are."""
    keep = tuple(len(c.directions) for c in choices)
    kept = keep[0] if len(set(keep)) == 1 else keep
    choices = [replace(c, scores={name: visible(score) for name, score in c.scores.items()}) for c in choices]
    return Genotype(tuple(choices), model, search_space, kept, derivation, health, provenance)
