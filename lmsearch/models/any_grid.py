"""Scan orders, padding and positions of a grid that is not known yet, for graphs that take images of any size: computed.

Shapes: K directions, L = H * W tokens, of sides that torch.export keeps open; P tokens of a padded grid; B batch, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lmsearch.models.class_token import rows_with
from lmsearch.scan.directions import parse_direction
from lmsearch.scan.grids import Grid, num_tokens


def is_open(grid: Grid) -> bool:
    """Tell whether torch.export keeps a side of a grid open."""
    return any(isinstance(side, torch.SymInt) for side in grid)


def places(grid: Grid, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the row and the column of every token, each (H, W) int64."""
    height, width = grid
    row = torch.arange(height, device=device)[:, None].expand(height, width)
    return row, torch.arange(width, device=device)[None].expand(height, width)


def computed_order(directions: Sequence[str], grid: Grid, device: torch.device, cls_index: int | None = None) -> Tensor:
    """Return the orders (K, L) int64 of arithmetic directions: a sort by one number that their keys make.

    A class token is stored at row `cls_index` and comes at that time of every order: (K, L + 1).
    """
    row, column = places(grid, device)
    most = sum(grid)
    orders = []
    for name in directions:
        scan = parse_direction(name)
        keys: Any = scan.keys
        rank = torch.zeros_like(row)
        for key in keys(row, column):
            rank = rank * (2 * most + 1) + key + most
        order = rank.flatten().argsort()
        orders.append(order.flip(0) if scan.flip else order)
    table = torch.stack(orders)
    if cls_index is None:
        return table
    token = torch.zeros_like(table[:, :1]) + cls_index
    return torch.cat([table + (table >= cls_index), token], dim=1).index_select(1, rows_with(table.shape[1], cls_index, device))


def padded_to(x: Tensor, grid: Grid, padded: Grid) -> Tensor:
    """Return tokens (B, L, D) with zero tokens at the bottom and right: (B, P, D)."""
    row, column = places(padded, x.device)
    inside = ((row < grid[0]) & (column < grid[1])).long()
    rows = num_tokens(grid) + inside * (row * grid[1] + column - num_tokens(grid))  # the row after the last is the zero token
    return torch.cat([x, torch.zeros_like(x[:, :1])], dim=1).index_select(1, rows.flatten())


def cropped_to(y: Tensor, grid: Grid, padded: Grid) -> Tensor:
    """Return the tokens (B, K, L, D) of a grid without those that fill it up, (B, K, P, D)."""
    row, column = places(grid, y.device)
    return y.index_select(2, (row * padded[1] + column).flatten())


def cubic_weights(old: int, new: int, *, like: Tensor) -> Tensor:
    """Return the part (new, old) of every one of `old` cells in each of `new` ones along an axis, bicubic and antialiased.

    It is what F.interpolate(mode="bicubic", antialias=True) computes: the kernel of Keys (1981) with a = -1/2, widened where
    cells become fewer, and normalised.
    """
    scale = torch.ones((), device=like.device) * old / new
    centre = (torch.arange(new, device=like.device) + 0.5)[:, None] * scale
    x = ((torch.arange(old, device=like.device) + 0.5) - centre).abs() / scale.clamp_min(1.0)  # (new, old)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    found = near * (x <= 1) + far * ((x > 1) & (x < 2))
    return (found / found.sum(1, keepdim=True)).to(like.dtype)


def pooling_weights(old: int, new: int, *, like: Tensor) -> Tensor:
    """Return the part (new, old) of every one of `old` cells in each of `new` means, as nn.AdaptiveAvgPool2d divides an axis."""
    cell, place = torch.arange(new, device=like.device)[:, None], torch.arange(old, device=like.device)
    first, end = cell * old // new, ((cell + 1) * old + new - 1) // new
    inside = ((place >= first) & (place < end)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)
