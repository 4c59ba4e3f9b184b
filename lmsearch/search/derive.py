"""From alphas to a genotype: every layer keeps its k most probable directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmsearch.errors import SearchSpaceError
from lmsearch.genotype import Genotype, LayerChoice
from lmsearch.scan_orders import label

Probabilities = Mapping[str, Mapping[str, float]]


def top_k(scores: Mapping[str, float], keep: int) -> LayerChoice:
    """Keep the `keep` best-scored candidates, listed in candidate order; of equal ones the earlier candidate wins.

    The margin is the score of the last direction kept minus that of the first one dropped (None when none is dropped).
    """
    ranked = sorted(scores, key=lambda name: -scores[name])  # stable: ties keep candidate order
    kept = set(ranked[:keep])
    margin = scores[ranked[keep - 1]] - scores[ranked[keep]] if keep < len(ranked) else None
    return LayerChoice(tuple(name for name in scores if name in kept), None, dict(scores), margin)


def choose(probabilities: Probabilities, keep: Sequence[int]) -> tuple[LayerChoice, ...]:
    """Return each layer's choice; raise SearchSpaceError where a layer has fewer candidates than it should keep."""
    choices = []
    for (layer, scores), k in zip(probabilities.items(), keep, strict=True):
        if not 1 <= k <= len(scores):
            raise SearchSpaceError(
                f"keep={k} is not between 1 and the {len(scores)} distinct candidates of {layer}: {', '.join(map(label, scores))}"
            )
        choice = top_k(scores, k)
        choices.append(LayerChoice(choice.directions, layer, choice.scores, choice.margin))
    return tuple(choices)


def derive_topk(
    probabilities: Probabilities,
    keep: Sequence[int],
    *,
    model: str,
    search_space: str,
    health: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Genotype:
    """Return the genotype of the k most probable directions per layer, with scores, margins and health attached."""
    kept = keep[0] if len(set(keep)) == 1 else tuple(keep)
    return Genotype(choose(probabilities, keep), model, search_space, kept, {"method": "topk"}, health, provenance)
