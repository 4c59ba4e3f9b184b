"""Grids of tokens with any number of axes. Tokens are in raster order: the last axis runs first."""

from __future__ import annotations

import math

Grid = tuple[int, ...]  # sides, such as (height, width)


def num_tokens(grid: Grid) -> int:
    """Return the number of tokens."""
    return math.prod(grid)


def grid_text(grid: Grid) -> str:
    """Return the sides as they are told: "14x14"."""
    return "x".join(map(str, grid))


def halved(grid: Grid) -> Grid:
    """Return the grid with half the sides, rounded up: that of the next stage of a hierarchical network."""
    return tuple((side + 1) // 2 for side in grid)


def whole_windows(grid: Grid, window: tuple[int, int]) -> Grid:
    """Return the smallest grid of whole windows that holds `grid`, without negative numbers: ONNX divides those towards zero."""
    return tuple((side + w - 1) // w * w for side, w in zip(grid, window, strict=True))


def middle(grid: Grid) -> int:
    """Return the place of a class token in the middle of the tokens."""
    return num_tokens(grid) // 2
