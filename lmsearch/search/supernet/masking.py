"""Masked evaluation: many choices of branches on the same held-out samples, with nothing computed twice.

Every batch is run through all choices before the next one comes. Choices that begin alike share the activations of their common
layers, and the branches of a layer are run once for all choices that reach it alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from lmsearch.data import EvalLoader
from lmsearch.data.batch import Batch
from lmsearch.data.info import Samples
from lmsearch.data.order import sharers
from lmsearch.engine.objectives import Objective, Scores
from lmsearch.engine.train import Precision, evaluate, evaluate_each
from lmsearch.models.branch_memory import BranchMemory
from lmsearch.search.supernet.kept import KeptScores, ending_together
from lmsearch.search.supernet.network import Branches, named_mixers, running

PIECE = 2048  # samples that are scored before they are kept
Signature = tuple[tuple[int, ...], tuple[float, ...]]
Choice = Mapping[str, Branches]  # what the layers of a supernet run, by name


class Evaluate(Protocol):
    """What scores networks, and choices inside a supernet, on the same samples every time."""

    def __call__(self, module: nn.Module) -> Scores:
        """Return the scores of a network as it is."""

    def each(self, module: nn.Module, choices: Sequence[Choice]) -> list[Scores]:
        """Return the scores of a supernet that runs each of these choices."""

    def looks(self, module: nn.Module, choices: Sequence[Choice]) -> Iterator[Look]:
        """Score each of these choices on more and more of the samples; what is not asked for is not computed."""

    @property
    def parts(self) -> Sequence[Samples]:
        """All samples, cut into disjoint parts."""

    @property
    def objective(self) -> Objective:
        """What scores are joined by."""

    def on_part(self, number: int, module: nn.Module, choices: Sequence[Choice]) -> list[Scores]:
        """Return the scores of each choice on a part, none where no sample of it could be read; join them, then `for_choice`."""


class Look(NamedTuple):
    """What is known of some choices after a share of the samples."""

    share: float  # in (0, 1]; 1 is the last look
    losses: Tensor  # (choices, samples so far) float64


@dataclass(frozen=True)
class OnBatches:
    """Held-out samples, scored with the losses that choices of directions, and tests of a choice, go by (Objective.for_choice).

    `each` needs, beside what the network itself takes, 2 + K token maps of one batch for every mixer with K candidates.
    `parts` are all the samples once more, cut into disjoint parts for `looks`; without any there is one look at all of them.
    `kept` remembers, under the `name` of the samples, what was measured before the run was stopped.
    """

    batches: Iterable[Batch]
    objective: Objective
    precision: Precision
    parts: Sequence[Samples] = ()
    kept: KeptScores | None = None
    name: str = ""

    def __call__(self, module: nn.Module) -> Scores:
        """Return the scores of a network as it is; raise TrainingDiverged where a loss is not finite."""
        return self.objective.for_choice(evaluate(module, self.batches, self.objective, self.precision))

    def each(self, module: nn.Module, choices: Sequence[Choice]) -> list[Scores]:
        """Return the scores of a supernet that runs each of these choices; raise TrainingDiverged as above."""
        return [self.objective.for_choice(scores) for scores in self._scored(module, choices, self.batches, self.name)]

    def looks(self, module: nn.Module, choices: Sequence[Choice]) -> Iterator[Look]:
        """Yield the losses on the first part, on the first two, and so on; raise TrainingDiverged as above."""
        if not self.parts:
            yield whole_look(self.each(module, choices))
            return
        total, seen = sum(part.num_samples for part in self.parts), 0
        found: list[list[Scores]] = [[] for _ in choices]
        for number, part in enumerate(self.parts):
            seen += part.num_samples
            scored = self.on_part(number, module, choices)
            if not scored:
                continue
            for mine, scores in zip(found, scored, strict=True):
                mine.append(scores)
            so_far = [self.objective.for_choice(Scores.concatenate(mine)) for mine in found]
            yield Look(seen / total, whole_look(so_far).losses)

    def on_part(self, number: int, module: nn.Module, choices: Sequence[Choice]) -> list[Scores]:
        """Return the scores of each choice on a part, none where no sample of it could be read; join them, then `for_choice`."""
        return self._scored(module, choices, self.parts[number], f"{self.name} {number}")

    def _scored(self, module: nn.Module, choices: Sequence[Choice], batches: Iterable[Batch], samples: str) -> list[Scores]:
        """Return the scores of every choice, none where no sample of the batches could be read; `samples` names these."""
        if not choices:
            return []
        layers = list(named_mixers(module))
        told = [[signature(choice.get(layer)) for layer in layers] for choice in choices]
        if self.kept is None:
            return self._measured(module, choices, batches, told)
        found: list[list[Scores]] = []
        for number, piece in enumerate(pieces(batches)):
            measure = partial(self._measured, module, choices, piece, told)
            with ending_together(sharers(piece)):
                scored = self.kept.once(module, f"{samples}, {number}", told, measure)
            if scored:
                found.append(scored)
        return found[0] if len(found) == 1 else [Scores.concatenate(mine) for mine in zip(*found, strict=True)]

    def _measured(
        self, module: nn.Module, choices: Sequence[Choice], batches: Iterable[Batch], told: Sequence[list[Signature]]
    ) -> list[Scores]:
        """Run every choice, of which `told` are the signatures, on the batches."""
        layers, order = list(named_mixers(module)), sorted(range(len(choices)), key=lambda i: told[i])

        def ways() -> Iterator[AbstractContextManager[object]]:
            memory = {layer: BranchMemory() for layer in layers}
            for i in order:
                yield running(module, choices[i], memory)

        found = evaluate_each(module, batches, self.objective.by_loss, self.precision, ways)
        if not found:
            return []
        scores = dict(zip(order, found, strict=True))
        return [scores[i] for i in range(len(choices))]


def pieces(batches: Iterable[Batch]) -> list[Iterable[Batch]]:
    """Cut the samples of a loader into pieces of about PIECE, whose batches are its own; anything else stays whole."""
    if not isinstance(batches, EvalLoader):
        return [batches]
    size = max(PIECE // batches.batch_size, 1) * batches.batch_size
    count = max(batches.num_samples // size, 1)
    if count == 1:
        return [batches]
    ends = [*range(size, count * size, size), batches.num_samples]
    return [batches.at(np.arange(start, end)) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def whole_look(scored: Sequence[Scores]) -> Look:
    """Return the look at all samples, of the scores of each choice."""
    return Look(1.0, torch.stack([scores.losses.double() for scores in scored]))


def signature(branches: Branches | None) -> Signature:
    """Return plain numbers that tell what a mixer runs; None: all of its branches, as its alphas weigh them."""
    if branches is None:
        return (), ()
    return branches.active, () if branches.weights is None else tuple(branches.weights.tolist())


def losses_of(module: nn.Module, evaluate: Evaluate, choices: Sequence[Choice]) -> list[Tensor]:
    """Return the per-sample held-out losses (n,) float64 of the supernet restricted to each of the choices."""
    return [scores.losses.double() for scores in evaluate.each(module, choices)]
