"""The class token among the tokens of a grid: putting it in and taking it out, also at a place that only a graph knows.

Shapes: B batch, L tokens without it, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def insert_token(x: Tensor, token: Tensor, index: int, *, dim: int = 1) -> Tensor:
    """Insert `token`, of one row along `dim` and of 1 or B images, into x (B, L, D) or (B, K, L, D) before its row `index`."""
    token = token.expand(x.shape[0], *token.shape[1:])
    if isinstance(index, torch.SymInt):
        return torch.cat([x, token], dim=dim).index_select(dim, rows_with(x.shape[dim], index, x.device))
    before, after = x.tensor_split((index,), dim=dim)
    return torch.cat([before, token, after], dim=dim)


def split_token(x: Tensor, index: int, *, dim: int) -> tuple[Tensor, Tensor]:
    """Return x without its row `index` along `dim`, and that row."""
    if isinstance(index, torch.SymInt):
        place = torch.arange(x.shape[dim] - 1, device=x.device)
        return x.index_select(dim, place + (place >= index)), take_token(x, index, dim=dim)
    before, token, after = x.tensor_split((index, index + 1), dim=dim)
    return torch.cat([before, after], dim=dim), token


def take_token(x: Tensor, index: int, *, dim: int) -> Tensor:
    """Return the row `index` of x along `dim`, which keeps that axis; no size of x is compared with it."""
    if isinstance(index, torch.SymInt):
        return x.index_select(dim, torch.zeros(1, dtype=torch.long, device=x.device) + index)
    return x.narrow(dim, index, 1)


def rows_with(length: int, index: int, device: torch.device) -> Tensor:
    """Return the rows (L + 1,) that move the last of `length` + 1 rows to place `index` and keep the others in order."""
    place = torch.arange(length + 1, device=device)
    return place - (place > index).long() + (place == index).long() * (length - index)
