"""Derivation by climbing: swap directions, one at a time, as long as the held-out loss of the masked supernet falls.

Alphas, and losses with one direction left out of a mixture, give every direction a value of its own. But directions do the
same work: h beside h_flip is worth less than h beside v. Masked losses of whole choices see that, provided that the weights
of all branches were trained alike (fair.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import nn

from lmsearch.errors import ConfigError
from lmsearch.genotype import LayerChoice
from lmsearch.search.derivation.choice import Probabilities, Quota, check_keep, surviving
from lmsearch.search.discrete.architectures import Architecture, ArchitectureSpace
from lmsearch.search.supernet.masking import Evaluate, losses_of
from lmsearch.search.supernet.network import masked

STARTS = 8  # random choices, of which the best is the start
SWEEPS = 4  # over all layers, that a climb is expected to take
CLIMB_SAMPLES = 128  # held-out ones that the supernet is masked on, some hundred times
SPREAD = 2.0  # standard deviation of the logits that values become
Choice = dict[str, tuple[str, ...]]


def key_of(choice: Choice) -> Architecture:
    """Return what a choice is known by."""
    return tuple(choice.values())


class Losses(Protocol):
    """Mean held-out losses of choices, each measured once."""

    @property
    def known(self) -> Sized:
        """What was measured, by choice."""

    def best(self, choices: Sequence[Choice]) -> Choice:
        """Return the choice with the lowest loss: of equal ones the first."""

    def loss(self, choice: Choice) -> float:
        """Return the loss of a choice."""

    def rises(self, choice: Choice, others: Sequence[Choice]) -> list[float]:
        """Return how much more the others lose than a choice."""


@dataclass
class Masked:
    """Mean losses of choices, each measured once on the same held-out samples."""

    module: nn.Module
    evaluate: Evaluate
    known: dict[Architecture, float] = field(default_factory=dict)

    def loss(self, choice: Choice) -> float:
        """Return the mean loss of the supernet that runs only these directions."""
        return self.losses([choice])[0]

    def losses(self, choices: Sequence[Choice]) -> list[float]:
        """Return the mean losses of several choices; those not yet known are measured together."""
        new = {key: choice for choice in choices if (key := key_of(choice)) not in self.known}
        found = losses_of(self.module, self.evaluate, [masked(self.module, choice) for choice in new.values()]) if new else []
        self.known |= {key: mine.mean().item() for key, mine in zip(new, found, strict=True)}
        return [self.known[key_of(choice)] for choice in choices]

    def best(self, choices: Sequence[Choice]) -> Choice:
        """Return the choice with the lowest loss: of equal ones the first."""
        measured = self.losses(choices)
        return choices[measured.index(min(measured))]

    def rises(self, choice: Choice, others: Sequence[Choice]) -> list[float]:
        """Return how much more the others lose than a choice."""
        here = self.loss(choice)
        return [loss - here for loss in self.losses(others)]


def swaps(choice: Choice, layer: str, candidates: Sequence[str]) -> list[tuple[str, str, Choice]]:
    """Return (direction that leaves, direction that comes, choice) for every swap in one layer."""
    mine = choice[layer]
    found = []
    for out in mine:
        for come in (name for name in candidates if name not in mine):
            swapped = tuple(name for name in candidates if name != out and (name in mine or name == come))
            found.append((out, come, {**choice, layer: swapped}))
    return found


def expected_choices(keep: Sequence[int], candidates: Sequence[int]) -> int:
    """Return about how many choices a climb measures that keeps keep[l] of candidates[l] in layer l."""
    return STARTS + SWEEPS * sum(k * (total - k) for k, total in zip(keep, candidates, strict=True))


def climb(losses: Losses, candidates: Mapping[str, Sequence[str]], start: Choice) -> Choice:
    """Take the best swap of each layer in turn until no layer has one that lowers the loss."""
    choice, unchanged = start, 0
    while unchanged < len(candidates):
        for layer, names in candidates.items():
            best = losses.best([choice, *(swapped for *_, swapped in swaps(choice, layer, names))])
            unchanged = unchanged + 1 if best is choice else 0  # nothing changes without a gain
            choice = best
            if unchanged == len(candidates):
                break
    return choice


def values_of(losses: Losses, candidates: Mapping[str, Sequence[str]], choice: Choice) -> dict[str, dict[str, float]]:
    """Return what each direction is worth at the end of the climb, in held-out loss.

    A kept direction is worth what its best replacement loses (at least 0), another one minus what taking it in loses.
    """
    around = [(layer, *swap) for layer, names in candidates.items() for swap in swaps(choice, layer, names)]
    lost, values = losses.rises(choice, [swapped for *_, swapped in around]), {}
    for layer, names in candidates.items():
        rises = [(out, come, r) for (mine, out, come, _), r in zip(around, lost, strict=True) if mine == layer]
        values[layer] = {
            name: min((r for out, _, r in rises if out == name), default=0.0)
            if name in choice[layer]
            else -min(r for _, come, r in rises if come == name)
            for name in names
        }
    return values


def as_probabilities(values: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Turn values into numbers that sum to 1 in every layer, on one scale for all layers: softmax of values / deviation."""
    everything = [v for layer in values.values() for v in layer.values()]
    scale = float(np.std(everything)) or 1.0
    found = {}
    for layer, mine in values.items():
        logits = SPREAD * np.array(list(mine.values())) / scale
        weights = np.exp(logits - logits.max())
        found[layer] = dict(zip(mine, (weights / weights.sum()).tolist(), strict=True))
    return found


def derive_climb(
    module: nn.Module, probabilities: Probabilities, evaluate: Evaluate, quota: Quota, *, seed: int
) -> tuple[tuple[LayerChoice, ...], dict[str, Any]]:
    """Return the choices and their record for genotype.json; `evaluate` scores the same held-out samples every time.

    `probabilities` name the candidates that are left. Scores of the choices are those of `as_probabilities`, margins what the
    best swap in the layer loses. Raises ConfigError for a budget: swaps keep the number of directions of every layer.
    """
    losses, space = Masked(module, evaluate), space_of(probabilities, quota, derivation="climb")
    return climbed(losses, probabilities, random_starts(space, seed=seed), method="climb")


def space_of(probabilities: Probabilities, quota: Quota, *, derivation: str) -> ArchitectureSpace:
    """Return the choices that there are; raise ConfigError for a budget, or where a layer has too few candidates left."""
    if quota.keep is None:
        raise ConfigError(
            f"derivation={derivation} keeps a number of directions per layer, so budget={quota.budget} cannot go with it"
        )
    candidates = {layer: surviving(scores) for layer, scores in probabilities.items()}
    for (layer, names), keep in zip(candidates.items(), quota.keep, strict=True):
        check_keep(keep, names, layer)
    return ArchitectureSpace.of(tuple(candidates.values()), quota.keep)


def random_starts(space: ArchitectureSpace, *, seed: int) -> list[Architecture]:
    """Draw STARTS choices."""
    rng = np.random.default_rng([seed, 20262])
    return [space.draw(rng) for _ in range(STARTS)]


def climbed(
    losses: Losses, probabilities: Probabilities, starts: Sequence[Architecture], *, method: str
) -> tuple[tuple[LayerChoice, ...], dict[str, Any]]:
    """Climb from the best of the starts, and return the choices and their record."""
    candidates = {layer: surviving(scores) for layer, scores in probabilities.items()}
    choice = climb(losses, candidates, losses.best([dict(zip(candidates, start, strict=True)) for start in starts]))
    values = values_of(losses, candidates, choice)
    scores = as_probabilities(values)
    choices = tuple(
        LayerChoice(
            directions,
            layer,
            dict.fromkeys(probabilities[layer], 0.0) | scores[layer],
            min((values[layer][name] for name in directions), default=None) if len(directions) < len(scores[layer]) else None,
        )
        for layer, directions in choice.items()
    )
    return choices, {"method": method, "loss": losses.loss(choice), "choices_tried": len(losses.known)}
