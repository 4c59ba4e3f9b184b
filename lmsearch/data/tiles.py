"""Large images in windows of one size, and what is known of the windows put together again.

Shapes: H W image, h w window, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable
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


def classes_of(parts: Iterable[tuple[Window, Tensor]], size: tuple[int, int]) -> Tensor:
    """Return the class (H, W) int64 that has most of the probabilities (C, h, w) of windows, added up where they overlap.

    Windows come as `windows` gives them: rows that no later one reaches are finished, so that few are held at a time.
    """
    answer = torch.zeros(size, dtype=torch.int64)
    total, top = None, 0
    for window, values in parts:
        if total is None:
            total = values.new_zeros(len(values), window.height, size[1])
        if (done := window.top - top) > 0:
            answer[top : window.top] = total[:, :done].argmax(0)
            total = torch.cat([total[:, done:], torch.zeros_like(total[:, :done])], dim=1)
            top = window.top
        total[:, :, window.left : window.left + window.width] += values
    if total is not None:
        answer[top:] = total.argmax(0)
    return answer
