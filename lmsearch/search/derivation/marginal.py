"""What each direction is worth so far, on average over what may stand beside it: a cheap look while a supernet trains.

Choices of a search are made otherwise (halving.py), on more samples and with swaps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from lmsearch.engine.randomness import generator
from lmsearch.search.architects.fair import fair_sets
from lmsearch.search.supernet.masking import Evaluate, losses_of
from lmsearch.search.supernet.network import masked, named_mixers

MASKS = 16  # random choices, each of all layers; every direction of a layer is in as many of them, about


def marginal_worth(module: nn.Module, evaluate: Evaluate, keep: Sequence[int], *, seed: int) -> dict[str, dict[str, float]]:
    """Return {layer: {direction: mean held-out loss of the choices without it minus that of those with it}}.

    The same MASKS choices of keep[l] directions in layer l every time for a seed. A layer that keeps all has no values.
    """
    candidates = {layer: list(mixer.directions) for layer, mixer in named_mixers(module).items()}
    draw = generator(seed, "marginal worth")
    sets = {layer: fair_sets(len(names), k, MASKS, draw) for (layer, names), k in zip(candidates.items(), keep, strict=True)}
    choices = [{layer: [candidates[layer][i] for i in mine[number]] for layer, mine in sets.items()} for number in range(MASKS)]
    losses = np.array([mine.mean().item() for mine in losses_of(module, evaluate, [masked(module, c) for c in choices])])
    worth: dict[str, dict[str, float]] = {}
    for layer, names in candidates.items():
        for name in names:
            holds = np.array([name in choice[layer] for choice in choices])
            if holds.any() and not holds.all():
                worth.setdefault(layer, {})[name] = float(losses[~holds].mean() - losses[holds].mean())
    return worth
