"""What the directions of a choice do inside a supernet: each alone, and layer by layer on the way from another choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from lmsearch.search.supernet.masking import Evaluate, losses_of
from lmsearch.search.supernet.network import masked, named_mixers

Choice = Mapping[str, Sequence[str]]  # directions by layer


def direction_importance(module: nn.Module, evaluate: Evaluate, choice: Choice) -> dict[str, dict[str, float]]:
    """Return {layer: {direction: held-out loss that it saves}} of all candidates.

    A direction of the choice saves what the loss rises without it, another one what the loss falls with it added. The only
    direction of a layer cannot be left out and has no value.
    """
    ways: dict[tuple[str, str], Choice] = {}
    for layer, mixer in named_mixers(module).items():
        for name in mixer.directions:
            mine = [d for d in mixer.directions if (d in choice[layer]) != (d == name)]
            if mine:
                ways[layer, name] = {**choice, layer: mine}
    whole, *others = mean_losses(module, evaluate, [choice, *ways.values()])
    found: dict[str, dict[str, float]] = {layer: {} for layer in choice}
    for (layer, name), loss in zip(ways, others, strict=True):
        found[layer][name] = loss - whole if name in choice[layer] else whole - loss
    return found


def ablation_path(module: nn.Module, evaluate: Evaluate, start: Choice, end: Choice) -> list[float]:
    """Return the held-out losses on the way from one choice to another: of the first, then with one more layer of the other."""
    layers = list(named_mixers(module))
    steps = [{layer: (end if n < done else start)[layer] for n, layer in enumerate(layers)} for done in range(len(layers) + 1)]
    return mean_losses(module, evaluate, steps)


def mean_losses(module: nn.Module, evaluate: Evaluate, choices: Sequence[Choice]) -> list[float]:
    """Return the mean held-out loss of the supernet that runs each of the choices."""
    return [mine.mean().item() for mine in losses_of(module, evaluate, [masked(module, choice) for choice in choices])]
