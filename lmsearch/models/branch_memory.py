"""What a mixer ran on its last input, for evaluations that run one input through many choices of branches.

Shapes: B batch, L tokens, D inner channels, K directions of the mixer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lmsearch.models.merge import Gates

Branch = tuple[Tensor, Tensor | None, Tensor | None]  # (B, L, D), its channel gate (B, D) and its spatial gate (B, L)


class BranchMemory:
    """The last input of one mixer, the branches that were run on it, and the last result.

    A result is given again where input and choice are the same, and a branch where the input is. The input itself is compared,
    so this holds for any network around the mixer. Keeps at most 2 + K token maps. For evaluation only: it keeps no gradients.
    """

    def __init__(self) -> None:
        self.x: Tensor | None = None
        self.known: dict[int, Branch] = {}
        self.active: tuple[int, ...] | None = None
        self.weights: Tensor | None = None
        self.result: Tensor | None = None

    def recall(self, x: Tensor, active: Sequence[int] | None, weights: Tensor | None) -> Tensor | None:
        """Return the result for this input and choice if it was the last one; else None, ready for `branches` and `keep`."""
        named = None if active is None else tuple(active)
        if self.x is None or self.x.shape != x.shape or not torch.equal(self.x, x):
            self.x, self.known, self.result = x.clone(), {}, None  # a copy: the network may write into its own
        elif self.result is not None and named == self.active and _same(weights, self.weights):
            return self.result.clone()
        self.active, self.weights = named, None if weights is None else weights.clone()
        return None

    def unknown(self, active: tuple[int, ...]) -> tuple[int, ...]:
        """Return those of the active branches that were not run on the last input yet."""
        return tuple(k for k in active if k not in self.known)

    def branches(self, active: tuple[int, ...], new: tuple[int, ...], o: Tensor | None, gates: Gates) -> tuple[Tensor, Gates]:
        """Return the active branches (B, K, L, D) of the last input, and their gates; o and `gates` are those of `new` ones."""
        if o is not None:
            parts = [tensor.unbind(1) if tensor is not None else (None,) * len(new) for tensor in (o, *gates)]
            self.known |= dict(zip(new, zip(*parts, strict=True), strict=True))
            if new == active:
                return o, gates
        return _stacked([self.known[k] for k in active])

    def keep(self, result: Tensor) -> Tensor:
        """Remember and return the result of the last choice."""
        self.result = result.clone()
        return result


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Tell whether the weights of two choices are equal."""
    return one is other if one is None or other is None else torch.equal(one, other)


def _stacked(branches: Sequence[Branch]) -> tuple[Tensor, Gates]:
    channel, spatial = (_stack([branch[gate] for branch in branches]) for gate in (1, 2))
    return torch.stack([branch[0] for branch in branches], 1), (channel, spatial)


def _stack(gates: Sequence[Tensor | None]) -> Tensor | None:
    """Return gates as one; None where there are none."""
    found = [gate for gate in gates if gate is not None]
    return torch.stack(found, 1) if found else None
