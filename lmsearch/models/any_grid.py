"""Scan orders of a grid that is not known yet, for graphs that take images of any size: computed, not looked up.

Shapes: K directions, L = H * W tokens, of sides that torch.export keeps open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lmsearch.scan.directions import parse_direction
from lmsearch.scan.grids import Grid


def is_open(grid: Grid) -> bool:
    """Tell whether torch.export keeps a side of a grid open."""
    return any(isinstance(side, torch.SymInt) for side in grid)


def computed_order(directions: Sequence[str], grid: Grid, device: torch.device) -> Tensor:
    """Return the orders (K, L) int64 of arithmetic directions: a sort by one number that their keys make."""
    height, width = grid
    row = torch.arange(height, device=device)[:, None].expand(height, width)
    column = torch.arange(width, device=device)[None].expand(height, width)
    orders = []
    for name in directions:
        scan = parse_direction(name)
        keys: Any = scan.keys
        rank = torch.zeros_like(row)
        for key in keys(row, column):
            rank = rank * (2 * (height + width) + 1) + key + height + width
        order = rank.flatten().argsort()
        orders.append(order.flip(0) if scan.flip else order)
    return torch.stack(orders)
