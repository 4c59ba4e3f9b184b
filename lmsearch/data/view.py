"""A window of an image at the size of the network's input: one geometry for pixels, class maps, boxes and masks, and back.

Shapes: H W image, h w input (img_size), C channels, n objects. Outside the image, inputs are 0 and class maps VOID.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lmsearch.data.info import VOID
from lmsearch.data.transforms import BICUBIC, to_tensor

Size = tuple[int, int]


@dataclass(frozen=True)
class View:
    """The image of `size` is resized to `resized`; the input begins at `offset` of that, which may be negative; then flipped.

    All are (down, across), in pixels. Rows and columns beyond the resized image show nothing.
    """

    size: Size
    resized: Size
    offset: Size
    img_size: Size
    flip: bool = False

    @classmethod
    def whole(cls, size: Size, img_size: Size) -> View:
        """Return the view that evaluation has: the whole image as large as fits, its sides in proportion, at the top left."""
        return cls(size, fitting(size, img_size), (0, 0), img_size)

    @property
    def filled(self) -> tuple[slice, slice]:
        """The rows and columns of the input, before the flip, that show the image."""
        down, across = (
            slice(max(0, -offset), max(0, min(side, resized - offset)))
            for offset, side, resized in zip(self.offset, self.img_size, self.resized, strict=True)
        )
        return down, across

    def pixels(self, image: Image.Image) -> Image.Image | None:
        """Return the part of the image that the input shows, resized but not flipped; None where it shows nothing."""
        if any(part.stop <= part.start for part in self.filled):
            return None
        (down, across), (dy, dx) = self.filled, self.offset
        (sy, sx), (height, width) = self.scale, self.size
        box = ((across.start + dx) / sx, (down.start + dy) / sy, (across.stop + dx) / sx, (down.stop + dy) / sy)
        inside = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))
        return image.resize((across.stop - across.start, down.stop - down.start), BICUBIC, box=inside)

    def tensor(self, pixels: Image.Image | None, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
        """Return what `pixels` gave as an input (C, h, w), normalised; 0 where there is no image."""
        input = torch.zeros(len(mean), *self.img_size)
        if pixels is not None:
            input[(slice(None), *self.filled)] = to_tensor(pixels, mean, std)
        return input.flip(2) if self.flip else input

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the input per pixel of the image, down and across."""
        return self.resized[0] / self.size[0], self.resized[1] / self.size[1]

    def class_map(self, values: np.ndarray) -> np.ndarray:
        """Return a class map (H, W) as the input shows it (h, w): the nearest pixel of each, VOID beyond the image."""
        seen = np.full(self.img_size, VOID, dtype=values.dtype)
        seen[self.filled] = values[np.ix_(*self._nearest())]
        return seen[:, ::-1] if self.flip else seen

    def masks(self, masks: np.ndarray) -> np.ndarray:
        """Return masks (n, H, W) bool as the input shows them (n, h, w)."""
        seen = np.zeros((len(masks), *self.img_size), dtype=bool)
        rows, columns = self._nearest()
        for shown, mask in zip(seen[(slice(None), *self.filled)], masks, strict=True):  # only around each object: most are small
            down, across = spanned(rows, mask.any(1)), spanned(columns, mask.any(0))
            shown[down, across] = mask.take(rows[down], 0).take(columns[across], 1)
        return seen[..., ::-1] if self.flip else seen

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Return boxes (n, 4) in pixels of the input, cut off at its sides; one that lies beyond has no area then."""
        (sy, sx), (dy, dx), (height, width) = self.scale, self.offset, self.img_size
        seen = boxes * (sx, sy, sx, sy) - (dx, dy, dx, dy)
        seen = np.clip(seen, 0, (width, height, width, height))
        return np.stack([width - seen[:, 2], seen[:, 1], width - seen[:, 0], seen[:, 3]], axis=1) if self.flip else seen

    def boxes_back(self, boxes: Tensor) -> Tensor:
        """Return boxes (n, 4) of the input in pixels of the image, cut off at its sides."""
        (sy, sx), (dy, dx), (height, width) = self.scale, self.offset, self.size
        if self.flip:
            left, top, right, bottom = boxes.unbind(1)
            boxes = torch.stack([self.img_size[1] - right, top, self.img_size[1] - left, bottom], dim=1)
        moved = (boxes + boxes.new_tensor([dx, dy, dx, dy])) / boxes.new_tensor([sx, sy, sx, sy])
        return torch.minimum(moved.clamp(min=0), boxes.new_tensor([width, height, width, height]))

    def maps_back(self, maps: Tensor) -> Tensor:
        """Return maps (n, h, w) of numbers, such as logits, at the size of the image (n, H, W), bilinear.

        The view must show the whole image; raises ValueError for another one.
        """
        (down, across), flipped = self.filled, maps.flip(2) if self.flip else maps
        if (down.stop - down.start, across.stop - across.start) != self.resized:
            raise ValueError("the view shows a part of the image only")
        return F.interpolate(flipped[None, :, down, across].float(), self.size, mode="bilinear", align_corners=False)[0]

    def _nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the row and column of the image under each filled row and column of the input."""
        rows, columns = (
            np.minimum(((np.arange(part.start, part.stop) + offset + 0.5) / scale).astype(int), side - 1)
            for part, offset, scale, side in zip(self.filled, self.offset, self.scale, self.size, strict=True)
        )
        return rows, columns


def spanned(places: np.ndarray, line: np.ndarray) -> slice:
    """Return which of some ascending places (n,) lie between the first and the last one that a line (L,) bool holds."""
    inside = np.flatnonzero(line)
    return slice(*np.searchsorted(places, [inside[0], inside[-1] + 1])) if len(inside) else slice(0)


def fitting(size: Size, img_size: Size) -> Size:
    """Return the largest size (height, width) within img_size whose sides are in proportion, each at least a pixel."""
    factor = min(side / own for own, side in zip(size, img_size, strict=True))
    height, width = (max(1, min(side, round(own * factor))) for own, side in zip(size, img_size, strict=True))
    return height, width
