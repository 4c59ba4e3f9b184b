"""What an image is labelled with, at its own size and as the network's input shows it: a class per pixel, or objects.

Shapes: B batch, H W image, h w input (img_size), n objects of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from lmsearch.data.dense.masks import MaskClasses
from lmsearch.data.dense.outlines import drawn
from lmsearch.data.dense.records import Annotated, Thing
from lmsearch.data.view import View
from lmsearch.errors import DataError
from lmsearch.paths import shown

Size = tuple[int, int]
T = TypeVar("T")


class Labels(Protocol[T]):
    """A kind of labels: how one image's are read and seen, and how those of several are put into one batch."""

    def read(self, part: Annotated, index: int, size: Size) -> T:
        """Return the labels of an image of `size` (height, width)."""

    def seen(self, labels: T, view: View, *, training: bool) -> T:
        """Return the labels as the input shows them."""

    def batch(self, labels: Sequence[T], img_size: Size) -> Tensor:
        """Return the targets of a batch."""


@dataclass(frozen=True)
class PixelLabels:
    """A class per pixel: of mask files, or of the outlines of objects, where 0 is the ground and small objects lie on top."""

    masks: MaskClasses | None = None

    def read(self, part: Annotated, index: int, size: Size) -> np.ndarray:
        """Return the class map (H, W) uint8; raise DataError where the mask is of another size than the image."""
        if self.masks is None:
            return class_map([] if part.things is None else part.things.at(index), size)
        path = part.mask_path(index)
        values = self.masks.read(path)
        if values.shape != size:
            sizes = f"{values.shape[0]}x{values.shape[1]} pixels, the image {size[0]}x{size[1]}"
            raise DataError(f"{shown(path)}: the mask has {sizes} (upright); both must be of one size")
        return values

    def seen(self, labels: np.ndarray, view: View, *, training: bool) -> np.ndarray:
        """Return the class map of the input (h, w), VOID beyond the image."""
        return view.class_map(labels)

    def batch(self, labels: Sequence[np.ndarray], img_size: Size) -> Tensor:
        """Return class maps (B, h, w) int64."""
        return torch.from_numpy(np.stack(labels).astype(np.int64)) if labels else torch.empty(0, *img_size, dtype=torch.int64)


def class_map(things: Sequence[Thing], size: Size) -> np.ndarray:
    """Return the class of every pixel (H, W) uint8: 0 where no object is, else the label of the smallest one there plus 1."""
    values = np.zeros(size, dtype=np.uint8)
    masks = [(drawn(thing.outline, size), thing.label) for thing in things if thing.outline is not None]
    for mask, label in sorted(masks, key=lambda entry: -int(entry[0].sum())):
        values[mask] = label + 1
    return values
