"""Masked evaluation as it is defined: one pass over all samples for every choice. The twin of search/supernet/masking.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from lmsearch.engine.objectives import Objective, Scores, objective_for
from lmsearch.search.supernet.masking import Choice, Look, whole_look
from lmsearch.search.supernet.network import running


@dataclass(frozen=True)
class PlainMasking:
    """Scores networks, and choices inside a supernet, with a function."""

    score: Callable[[nn.Module], Scores]
    parts: Sequence[object] = ("all",)
    objective: Objective = objective_for("class")

    def __call__(self, module: nn.Module) -> Scores:
        """Score the network as it is."""
        return self.score(module)

    def each(self, module: nn.Module, choices: Sequence[Choice]) -> list[Scores]:
        """Score the supernet once for each choice."""
        found = []
        for choice in choices:
            with running(module, choice):
                found.append(self.score(module))
        return found

    def looks(self, module: nn.Module, choices: Sequence[Choice]) -> Iterator[Look]:
        """Look at all samples at once."""
        yield whole_look(self.each(module, choices))

    def on_part(self, number: int, module: nn.Module, choices: Sequence[Choice]) -> list[Scores]:
        """Score all samples: there is one part."""
        return self.each(module, choices)
