"""Fair training of shared weights: every step trains all branches of every layer alike (strict fairness, arXiv 1907.01845).

Alphas that learn beside the weights prefer what learns first, which is then all that goes on learning. Here a step passes its
batch through the supernet several times, each time with another random set of as many branches as a layer keeps, until every
branch has had its turn, and then moves the weights once. (Where that number does not divide the branches, the last set is
filled up with some drawn anew: then all are trained alike on average.) With fewer passes per step a round of turns takes
several steps, and a space of twice as many candidates costs no more. What is kept is decided afterwards, by masking (halving.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.amp import GradScaler

from lmsearch.data.batch import Batch
from lmsearch.engine.randomness import generator
from lmsearch.search.architects.learning import Frozen, SingleLevel
from lmsearch.search.supernet.network import named_mixers
from lmsearch.search.supernet.policy import Draw
from lmsearch.search.supernet.relax import Picked


def passes_per_round(keep: Sequence[int], candidates: Sequence[int]) -> int:
    """Return how many passes give every branch its turn, where layer l runs keep[l] of candidates[l] at a time."""
    return max(math.ceil(total / k) for k, total in zip(keep, candidates, strict=True))


def fair_sets(total: int, keep: int, passes: int, draw: torch.Generator) -> list[Picked]:
    """Return `passes` sets of `keep` of `total` branches; no branch is in a second one before all were in a first one."""
    sets: list[Picked] = []
    queue: list[int] = []
    for _ in range(passes):
        chosen: list[int] = []
        while len(chosen) < keep:
            free = [branch for branch in queue if branch not in chosen]
            if free:
                chosen.append(free[0])
                queue.remove(free[0])
            else:
                queue += torch.randperm(total, generator=draw).tolist()
        sets.append(tuple(sorted(chosen)))
    return sets


@dataclass
class Fair(Frozen):
    """The weights' gradient is the mean over the passes of a step, and alphas do not learn, until the policy follows them."""

    passes: int | None = None  # per step; None: a whole round
    alphas: SingleLevel | None = None  # what moves them from then on; None: they never learn
    sets: list[dict[str, Picked]] = field(default_factory=list, init=False)  # of this step, one per pass

    def before_step(self, batch: Batch, *, epoch: int, step: int, lr: float) -> None:
        """Draw the sets of this step."""
        if self.later is not None:
            self.later.before_step(batch, epoch=epoch, step=step, lr=lr)
            return
        mixers = named_mixers(self.policy.module)
        whole = passes_per_round(self.policy.keep, [len(m.directions) for m in mixers.values()])
        passes = self.passes or whole
        first = (epoch * self.timing.steps_per_epoch + step) * passes  # number of this step's first pass in the search
        self.sets = []
        for turn in range(first // whole, (first + passes - 1) // whole + 1):
            drawn = self.round(turn, whole)
            for place in range(max(first - turn * whole, 0), min(first + passes - turn * whole, whole)):
                self.sets.append({layer: sets[place] for layer, sets in drawn.items()})

    def passes_of_step(self) -> int:
        """Return how many sets this step has; one pass runs all branches where alphas weigh them."""
        return len(self.sets) if self.later is None else 1

    @property
    def later(self) -> SingleLevel | None:
        """What moves alphas where they weigh the branches, None before."""
        return self.alphas if self.policy.relaxation.learns else None

    def round(self, turn: int, passes: int) -> dict[str, list[Picked]]:
        """Draw the sets of one round of turns of every layer, keyed by the round's number in the search."""
        mixers = named_mixers(self.policy.module)
        return {
            layer: fair_sets(len(m.directions), keep, passes, generator(self.policy.seed, "fair", turn, layer))
            for (layer, m), keep in zip(mixers.items(), self.policy.keep, strict=True)
        }

    def begin_pass(self, number: int) -> None:
        """Let the next forward pass run one of the sets."""
        if self.later is not None:
            return
        for layer, mixer in named_mixers(self.policy.module).items():
            self.policy.draws[layer] = Draw(tuple(range(len(mixer.directions))), self.sets[number][layer], None)

    def after_backward(self, scaler: GradScaler) -> None:
        """Move the alphas where they weigh the branches."""
        if self.later is not None:
            self.later.after_backward(scaler)
