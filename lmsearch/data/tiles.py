"""Large images in windows of one size, and what is known of the windows put together again.

Shapes: H W image, h w window, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Rows and columns of an image, in pixels: from top and left on, so many of them."""

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def of(self, image: Image.Image) -> Image.Image:
        """Return this part of an image."""
        return image.crop((self.left, self.top, self.left + self.width, self.top + self.height))


def windows(size: tuple[int, int], *, tile: int | None, overlap: int = 0) -> list[Window]:
    """Return square windows of `tile` pixels that cover an image (H, W), row by row; neighbours share `overlap` pixels or more.

    The last ones end with the image, so that all are of one size. `tile` None: one window, the whole image; a side of the image
    that is shorter than the tile is taken whole.
    """
    if tile is None:
        return [Window(0, 0, *size)]
    (tops, height), (lefts, width) = (_starts(side, tile, overlap) for side in size)
    return [Window(top, left, height, width) for top in tops for left in lefts]


def _starts(side: int, tile: int, overlap: int) -> tuple[list[int], int]:
    """Return where windows begin along a side, and how long they are."""
    if side <= tile:
        return [0], side
    return [*range(0, side - tile, tile - overlap), side - tile], tile


def merged(parts: Sequence[tuple[Window, Tensor]], size: tuple[int, int]) -> Tensor:
    """Return maps (C, H, W) from those of windows (C, h, w): their mean where windows overlap."""
    first = parts[0][1]
    total, seen = first.new_zeros(len(first), *size), first.new_zeros(size)
    for window, values in parts:
        rows, columns = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
        total[:, rows, columns] += values
        seen[rows, columns] += 1
    return torch.div(total, seen, out=total)
