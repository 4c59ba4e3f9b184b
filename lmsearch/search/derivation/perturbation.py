"""Selection by perturbation: drop the direction whose absence the held-out loss minds least, until k are left.

After DARTS-PT (arXiv 2108.04392), without its fine-tuning between steps: the supernet's weights stay as they are. Layers
are visited from the surest (least entropy) to the least sure; those not yet visited run their whole mixture.

What remains of a layer keeps its probabilities, scaled to sum to 1: the way down then starts at the trained mixture. Equal
weights chose the same directions on planted tasks, but from a start up to twice the mixture's loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from lmsearch.genotype import LayerChoice
from lmsearch.search.derivation.choice import Probabilities, Quota, allocate, check_budget, check_keep, surviving
from lmsearch.search.supernet.masking import Evaluate, losses_of
from lmsearch.search.supernet.network import Branches, remaining
from lmsearch.search.trust.detectors import normalised_entropy


@dataclass(frozen=True)
class Elimination:
    """One layer's way down: `dropped` first to last, and mean held-out losses with all, all but one, ... directions.

    `margins[i]` is how much more the loss would have risen, had the second least useful direction been dropped at step i.
    """

    candidates: tuple[str, ...]
    dropped: tuple[str, ...]
    losses: tuple[float, ...]
    margins: tuple[float, ...]

    def kept(self, keep: int) -> tuple[str, ...]:
        """Return the last `keep` directions, in candidate order."""
        gone = self.dropped[: len(self.candidates) - keep]
        return tuple(name for name in self.candidates if name not in gone)

    def margin(self, keep: int) -> float | None:
        """Return the margin of the last step on the way to `keep` directions; None where nothing was dropped."""
        steps = len(self.candidates) - keep
        return self.margins[steps - 1] if steps else None


def eliminate(
    module: nn.Module,
    evaluate: Evaluate,
    layer: str,
    scores: Mapping[str, float],
    *,
    down_to: int,
    decided: Mapping[str, Branches],
) -> Elimination:
    """Drop directions of one layer one by one; of equal losses the less probable, then the later candidate goes first.

    `decided` holds what the layers run meanwhile.
    """

    def losses_with(sets: Sequence[Sequence[str]]) -> list[float]:
        ways = [{**decided, layer: remaining(module, layer, names, scores)} for names in sets]
        return [losses.mean().item() for losses in losses_of(module, evaluate, ways)]

    left = list(surviving(scores))
    dropped, losses, margins = [], losses_with([left]), []
    while len(left) > down_to:
        without = losses_with([[n for n in left if n != name] for name in left])
        trials = [(loss, scores[name], -left.index(name), name) for loss, name in zip(without, left, strict=True)]
        (loss, *_, worst), second = sorted(trials)[:2]
        left.remove(worst)
        dropped.append(worst)
        losses.append(loss)
        margins.append(second[0] - loss)
    return Elimination(surviving(scores), tuple(dropped), tuple(losses), tuple(margins))


def branches_run(keep: Sequence[int], candidates: Sequence[int]) -> int:
    """Return the branches, summed over layers and forward passes, that a derivation of keep[l] of candidates[l] runs.

    A layer goes from all candidates down to those it keeps; layers before it already hold those, layers after it still all
    (in the order of the layers; they are taken in another one, which matters little).
    """
    total = 0
    for layer, (k, mine) in enumerate(zip(keep, candidates, strict=True)):
        others = sum(keep[:layer]) + sum(candidates[layer + 1 :])
        passes = [mine] + [left - 1 for left in range(mine, k, -1) for _ in range(left)]
        total += sum(own + others for own in passes)
    return total


def derive_perturbation(
    module: nn.Module, probabilities: Probabilities, evaluate: Evaluate, quota: Quota
) -> tuple[tuple[LayerChoice, ...], dict[str, Any]]:
    """Return the choices by backward elimination and its record for genotype.json; margins are held-out losses.

    `evaluate(module)` returns the held-out scores of the same samples every time; going from K to k directions takes
    1 + K + (K - 1) + ... + (k + 1) of them per layer. With a budget, every layer goes down to one direction while the others
    run whole, and the budget is shared so that the sum of the layers' losses is least.
    """
    if quota.keep is not None:
        for (layer, scores), k in zip(probabilities.items(), quota.keep, strict=True):
            check_keep(k, surviving(scores), layer)
        keep = dict(zip(probabilities, quota.keep, strict=True))
    else:
        check_budget(quota.shared, [len(surviving(scores)) for scores in probabilities.values()])
        keep = None
    found: dict[str, Elimination] = {}
    decided = {layer: remaining(module, layer, surviving(scores), scores) for layer, scores in probabilities.items()}
    for layer in sorted(probabilities, key=lambda name: normalised_entropy(probabilities[name])):
        scores, down_to = probabilities[layer], 1 if keep is None else keep[layer]
        found[layer] = eliminate(module, evaluate, layer, scores, down_to=down_to, decided=decided)
        if keep is not None:
            decided[layer] = remaining(module, layer, found[layer].kept(keep[layer]), scores)
    if keep is None:
        values = [[-loss for loss in reversed(found[layer].losses)] for layer in probabilities]
        keep = dict(zip(probabilities, allocate(values, quota.shared), strict=True))
    choices = tuple(
        LayerChoice(found[layer].kept(keep[layer]), layer, dict(scores), found[layer].margin(keep[layer]))
        for layer, scores in probabilities.items()
    )
    return choices, {"method": "perturbation", "layers": {layer: record(e) for layer, e in found.items()}}


def record(elimination: Elimination) -> dict[str, Any]:
    """Return what genotype.json keeps of one layer's elimination."""
    return {"dropped": elimination.dropped, "losses": elimination.losses}
