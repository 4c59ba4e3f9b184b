"""Does one direction do all the work? Then alphas, which see at once what learns, find what goes best with it.

Masked losses tell what a choice is worth where every direction helps a bit (experiment e5). Where one direction dominates, what
goes with it makes little difference to them, and alphas order the others better. The sign of that: of random masked choices, the
best ones all hold the direction in some layer.

Were all choices equally good, any of them would be as likely to hold it: where m of n choices do, the best r all do by chance in
C(m, r) / C(n, r) of all cases. A search that looks several times at several directions asks for as much less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import nn

from lmsearch.engine.randomness import generator
from lmsearch.search.architects.fair import fair_sets
from lmsearch.search.discrete.budget import evaluation_cost
from lmsearch.search.supernet.masking import Evaluate, losses_of
from lmsearch.search.supernet.network import masked, named_mixers

CHOICES = 24  # random ones, each of all layers
DRAWN = 96  # of which the first CHOICES that differ count
SAMPLES = 32  # held-out ones that they are masked on
LOOKS = (0.5, 0.75)  # shares of a search after which it looks: earlier, what learns first is ahead
Choice = dict[str, tuple[str, ...]]


def due(epoch: int, epochs: int) -> bool:
    """Tell whether a search looks after this epoch, counted from 0."""
    return epoch + 1 in {math.ceil(epochs * share) for share in LOOKS} - {epochs}


def num_choices(keep: Sequence[int], candidates: Sequence[int]) -> int:
    """Return how many choices a look compares, where a search keeps keep[l] of candidates[l]."""
    return min(CHOICES, math.prod(map(math.comb, candidates, keep)))


def steps_of_looks(epoch: int, epochs: int, *, keep: Sequence[int], candidates: Sequence[int], held: int, batch: int) -> float:
    """Return the branch-scan steps of the looks from this epoch on, about, where so many samples are held out."""
    looks = sum(due(later, epochs) for later in range(epoch, epochs))
    looked = num_choices(keep, candidates) * sum(keep)
    return looks * evaluation_cost(min(SAMPLES, held), batch_size=batch, branches=looked)


def least_level(keep: Sequence[int], candidates: Sequence[int]) -> float:
    """Return about the lowest `level` at which a search that keeps keep[l] of candidates[l] can find a direction; 1 for none."""
    choices, hold = num_choices(keep, candidates), num_holding(keep, candidates)
    return min(1.0, len(LOOKS) * max(candidates) / math.comb(choices, hold))


def num_holding(keep: Sequence[int], candidates: Sequence[int]) -> int:
    """Return about how many of the choices of a look hold a given direction in some layer: in many layers nearly all do."""
    without = math.prod(1 - k / total for k, total in zip(keep, candidates, strict=True))
    return round(num_choices(keep, candidates) * (1 - without))


def why_none(keep: Sequence[int], candidates: Sequence[int]) -> str:
    """Return why a search finds no direction below `least_level`, and what helps where something does."""
    choices, hold = num_choices(keep, candidates), num_holding(keep, candidates)
    told = f"none is told below {least_level(keep, candidates):.2g}"
    if choices < CHOICES:
        return f"of so few choices {told}"
    if 2 * hold < choices:
        return f"of {choices} choices only about {hold} hold any given direction, and of so few {told}"
    layers, kept, of = len(keep), sum(keep) / len(keep), sum(candidates) / len(candidates)
    many = f"{layers} layer{'s' * (layers > 1)}, keeping {kept:.3g} of {of:.3g}: about {hold} of {choices} choices hold"
    return f"{many} any given direction, and {told}; fewer layers or a smaller keep= take it"


def dominant(module: nn.Module, evaluate: Evaluate, choices: Sequence[Choice], *, level: float) -> str | None:
    """Return a direction that all of the best of these random choices hold, None where there is none.

    `evaluate` scores the same held-out samples every time; `level` is the chance that a search finds one although no direction
    matters.
    """
    losses = np.array([mine.mean().item() for mine in losses_of(module, evaluate, [masked(module, c) for c in choices])])
    names = dict.fromkeys(name for mixer in named_mixers(module).values() for name in mixer.directions)
    for name in names:
        holds = np.array([any(name in mine for mine in choice.values()) for choice in choices])
        if len(LOOKS) * len(names) * chance_of_lead(losses, holds) <= level:
            return name
    return None


def chance_of_lead(losses: np.ndarray, holds: np.ndarray) -> float:
    """Return how likely it is that the choices marked by `holds` (n,) lead as they do, were all losses (n,) as likely theirs.

    Those lead that are better than every choice that is not marked.
    """
    if holds.all():
        return 1.0
    lead = int((losses < losses[~holds].min()).sum())
    return math.comb(int(holds.sum()), lead) / math.comb(len(losses), lead)


def random_choices(module: nn.Module, keep: Sequence[int], *, seed: int, look: int) -> list[Choice]:
    """Draw CHOICES choices that differ, or fewer where there are no more; each direction is in about as many as any other."""
    candidates = {layer: mixer.directions for layer, mixer in named_mixers(module).items()}
    sets = {
        layer: fair_sets(len(names), k, DRAWN, generator(seed, "dominance", look, layer))
        for (layer, names), k in zip(candidates.items(), keep, strict=True)
    }
    numbered = [{layer: mine[number] for layer, mine in sets.items()} for number in range(DRAWN)]
    distinct = list({tuple(choice.values()): choice for choice in numbered}.values())[:CHOICES]
    return [{layer: tuple(candidates[layer][i] for i in mine) for layer, mine in choice.items()} for choice in distinct]
