"""Derivation by sequential halving: a climb that measures what may be best on all held-out samples, and the rest on few of them.

A climb takes the best of many swaps again and again, so on few samples it ends at what suits these: of two supernets on real
images (experiments/e6_real), choices 3.9 and 3.4 standard deviations better than random ones on the 128 samples of climb.py
were 1.7 better and 1.2 worse on others. Here every look at more samples keeps the better half of the swaps (sequential halving,
Karnin et al., ICML 2013), and the one that is taken is better than what it replaces on all samples. Sets of the literature that
the space holds are among the starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from lmsearch.engine.objectives import Scores
from lmsearch.errors import DataError
from lmsearch.genotype import LayerChoice
from lmsearch.literature import ARMS
from lmsearch.search.derivation.choice import Probabilities, Quota
from lmsearch.search.derivation.climb import Choice, climbed, key_of, random_starts, space_of
from lmsearch.search.discrete.architectures import Architecture, ArchitectureSpace
from lmsearch.search.supernet.masking import Evaluate
from lmsearch.search.supernet.network import masked

HALVING_SAMPLES = 2048  # held-out ones at most
READ_BYTES = 2**30  # of inputs that are kept while directions are chosen on them


@dataclass
class Halving:
    """Held-out losses of choices on more and more parts of the samples, each measured once."""

    module: nn.Module
    evaluate: Evaluate
    known: dict[Architecture, list[Scores]] = field(default_factory=dict)  # part by part
    parts: list[int] = field(init=False)  # those of which samples can be read

    def __post_init__(self) -> None:
        self.parts = list(range(len(self.evaluate.parts)))

    def best(self, choices: Sequence[Choice]) -> Choice:
        """Return the choice with the lowest loss that halving finds: of equal ones the first.

        What replaces the first is better on all samples. Before the first is kept, those that halving left behind and that
        were better so far are measured to the end.
        """
        first, *left = choices
        for upto in range(1, len(self.evaluate.parts)):
            self.measure([first, *left], upto=upto)
            left = sorted(left, key=lambda choice: self.losses_of(choice, upto=upto).mean().item())[: half(len(left))]
        self.measure([first, *left])
        best = min([first, *left], key=self.loss)
        if best is not first:
            return best
        behind = [choice for choice, rise in zip(choices[1:], self.rises(first, choices[1:]), strict=True) if rise < 0]
        self.measure(behind)
        return min([first, *behind], key=self.loss)

    def loss(self, choice: Choice) -> float:
        """Return the mean loss on all samples."""
        self.measure([choice])
        return self.losses_of(choice).mean().item()

    def rises(self, choice: Choice, others: Sequence[Choice]) -> list[float]:
        """Return how much more the others lose than a choice, each on the samples that are known of it: the first, or more."""
        self.measure(others, upto=1)
        self.measure([choice])
        counts = [len(self.known[key_of(other)]) for other in others]
        pairs = zip(others, counts, strict=True)
        return [(self.losses_of(o) - self.losses_of(choice, upto=n)).mean().item() for o, n in pairs]

    def measure(self, choices: Sequence[Choice], *, upto: int | None = None) -> None:
        """Measure what is not yet known of these choices on the first parts, None: on all.

        Raises DataError where no sample of any part can be read.
        """
        place = 0
        while place < len(self.parts[:upto]):
            new = {key_of(c): c for c in choices if len(self.known.get(key_of(c), ())) <= place}
            ways = [masked(self.module, choice) for choice in new.values()]
            found = self.evaluate.on_part(self.parts[place], self.module, ways) if ways else []
            if ways and not found:
                del self.parts[place]
                continue
            for key, scores in zip(new, found, strict=True):
                self.known.setdefault(key, []).append(scores)
            place += 1
        if not self.parts:
            raise DataError("none of the held-out samples that directions are chosen on can be read")

    def losses_of(self, choice: Choice, *, upto: int | None = None) -> Tensor:
        """Return the per-sample losses (n,) float64 on the first parts, None: on all that are known."""
        scores = Scores.concatenate(self.known[key_of(choice)][:upto])
        return self.evaluate.objective.for_choice(scores).losses.double()


def half(number: int) -> int:
    """Return how many of so many swaps a look keeps: the one that is left stays."""
    return (number + 1) // 2


def share_measured(parts: Sequence[int], ways: int) -> float:
    """Return the mean share of the samples that halving measures of one of `ways`, where parts hold so many samples."""
    seen, left = 0, ways
    for number in parts:
        seen += left * number
        left = 1 + half(left - 1)
    return seen / (ways * sum(parts))


def known_sets(space: ArchitectureSpace) -> list[Architecture]:
    """Return the sets of the literature that are made for any depth, as far as a space holds them."""
    depth, found = len(space.keep), []
    for arm in ARMS.values():
        layers = arm.layers("", depth) if arm.depths == "any" else None
        if layers is None:
            continue
        ordered = tuple(tuple(n for n in names if n in mine) for names, mine in zip(space.candidates, layers, strict=True))
        if ordered in space and all(len(a) == len(b) for a, b in zip(ordered, layers, strict=True)):
            found.append(ordered)
    return found


def derive_halving(
    module: nn.Module, probabilities: Probabilities, evaluate: Evaluate, quota: Quota, *, seed: int
) -> tuple[tuple[LayerChoice, ...], dict[str, Any]]:
    """Return the choices and their record for genotype.json, as `derive_climb` does.

    Scores and margins are of fewer samples than the choice where halving left a swap behind. `samples` in the record is how many
    the choice was measured on, `samples_looked_at` how many of all choices. Raises ConfigError as `derive_climb` does, and
    DataError where no sample can be read.
    """
    space, losses = space_of(probabilities, quota, derivation="halving"), Halving(module, evaluate)
    choices, how = climbed(losses, probabilities, [*random_starts(space, seed=seed), *known_sets(space)], method="halving")
    looked = sum(len(scores.losses) for parts in losses.known.values() for scores in parts)
    return choices, how | {"samples": len(losses.losses_of({c.name: c.directions for c in choices})), "samples_looked_at": looked}
