"""Drop path: whole samples of a residual branch are left out in training, drawn for each sample by its number.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar

from torch import Tensor, nn

from lmsearch.context import setting

Draws = Callable[[int], Tensor]  # from the number of a layer to one number in [0, 1] per sample, (B,)
_DRAWS: ContextVar[Draws | None] = ContextVar("numbers drawn for the samples of this forward pass", default=None)


def drawing(draws: Draws) -> AbstractContextManager[None]:
    """Let every DropPath inside the block take its random numbers from `draws`, not from PyTorch's global state."""
    return setting(_DRAWS, draws)


def drawn(number: int) -> Tensor | None:
    """Return the numbers in [0, 1] of the samples of this forward pass (B,) for a layer; None where none are drawn by sample."""
    draws = _DRAWS.get()
    return None if draws is None else draws(number)


class DropPath(nn.Module):
    """Drop whole samples of a residual branch with probability `drop_prob` in training, scaling the rest by 1 / keep.

    `number` tells the layers of a network apart: each draws for itself.
    """

    def __init__(self, drop_prob: float, number: int = 0) -> None:
        super().__init__()
        self.drop_prob, self.number = drop_prob, number

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0.0:
            return x
        keep, numbers = 1.0 - self.drop_prob, drawn(self.number)
        shape = (x.shape[0], *[1] * (x.dim() - 1))
        mask = x.new_empty(shape).bernoulli_(keep) if numbers is None else (numbers < keep).to(x.dtype).view(shape)
        return x * mask / keep

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob:g}"
