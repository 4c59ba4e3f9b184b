"""What an image is labelled with, at its own size and as the network's input shows it: a class per pixel, or objects.

Shapes: B batch, H W image, h w input (img_size), n objects of an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from lmsearch.data.dense.looked import check_mask
from lmsearch.data.dense.masks import MaskClasses
from lmsearch.data.dense.outlines import boxes_of, drawn
from lmsearch.data.dense.records import Annotated, Thing
from lmsearch.data.instances import NOTHING, Instances
from lmsearch.data.view import View
from lmsearch.stats.detection import Truth

Size = tuple[int, int]
SMALLEST = 1.0  # pixels of the input that both sides of a box must have to be trained on
T = TypeVar("T")


class Labels(Protocol[T]):
    """A kind of labels: how one image's are read and seen, and how those of several are put into one batch."""

    def read(self, part: Annotated, index: int, size: Size) -> T:
        """Return the labels of an image of `size` (height, width)."""

    def seen(self, labels: T, view: View, *, training: bool) -> T:
        """Return the labels as the input shows them."""

    def batch(self, labels: Sequence[T], img_size: Size) -> Tensor | Instances:
        """Return the targets of a batch."""

    def most_bytes(self, part: Annotated, img_size: Size) -> int:
        """Return the most bytes that the labels of one image take in a batch."""

    def truth(self, labels: T, part: Annotated, index: int) -> Any:
        """Return what answers at the image's own size are measured against; `labels` are those of that image."""


@dataclass(frozen=True)
class PixelLabels:
    """A class per pixel: of mask files, or of the outlines of objects, where 0 is the ground and small objects lie on top."""

    masks: MaskClasses | None = None

    def read(self, part: Annotated, index: int, size: Size) -> np.ndarray:
        """Return the class map (H, W) uint8; raise DataError where the mask is of another size than the image."""
        if self.masks is None:
            return class_map(things_of(part, index), size)
        path = part.mask_path(index)
        values = self.masks.read(path)
        check_mask(path, values, size)
        return values

    def seen(self, labels: np.ndarray, view: View, *, training: bool) -> np.ndarray:
        """Return the class map of the input (h, w), VOID beyond the image."""
        return view.class_map(labels)

    def batch(self, labels: Sequence[np.ndarray], img_size: Size) -> Tensor:
        """Return class maps (B, h, w) int64."""
        return torch.from_numpy(np.stack(labels).astype(np.int64)) if labels else torch.empty(0, *img_size, dtype=torch.int64)

    def most_bytes(self, part: Annotated, img_size: Size) -> int:
        """Return the bytes of a class map in a batch."""
        return math.prod(img_size) * torch.int64.itemsize

    def truth(self, labels: np.ndarray, part: Annotated, index: int) -> np.ndarray:
        """Return the class map (H, W) uint8."""
        return labels


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one image of `size`: boxes (n, 4), labels (n,), crowd (n,), and masks (n, H, W) bool where they are used."""

    size: Size
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    masks: np.ndarray | None = None


@dataclass(frozen=True)
class ObjectLabels:
    """Boxes with classes; with `masks` also the pixels of every object, whose boxes are then those of the pixels seen.

    Where they are not `sent`, the pixels serve the boxes alone and are in no batch.
    """

    masks: bool
    sent: bool = True

    def read(self, part: Annotated, index: int, size: Size) -> Objects:
        """Return the objects of an image."""
        things = things_of(part, index)
        if not self.masks:
            return Objects(size, *_columns(things))
        masks = [np.zeros(size, dtype=bool) if thing.outline is None else drawn(thing.outline, size) for thing in things]
        return Objects(size, *_columns(things), np.array(masks, dtype=bool).reshape(-1, *size))

    def seen(self, labels: Objects, view: View, *, training: bool) -> Objects:
        """Return the objects of which the input shows something; in training also boxes of at least SMALLEST pixels only."""
        masks = None if labels.masks is None else view.masks(labels.masks)
        boxes = view.boxes(labels.boxes) if masks is None else boxes_of(masks)
        sides = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        there = sides >= SMALLEST if training else sides > 0
        kept = masks[there] if masks is not None and self.sent else None
        return Objects(view.img_size, boxes[there], labels.labels[there], labels.crowd[there], kept)

    def batch(self, labels: Sequence[Objects], img_size: Size) -> Instances:
        """Return the objects of a batch, padded to the fullest image."""
        most = max((len(one.labels) for one in labels), default=0)
        places = (len(labels), most)
        boxes = torch.zeros(*places, 4)
        classes = torch.full(places, NOTHING)
        crowd = torch.zeros(places, dtype=torch.bool)
        masks = torch.zeros(*places, *img_size, dtype=torch.bool) if self.masks and self.sent else None
        for place, one in enumerate(labels):
            own = slice(len(one.labels))
            boxes[place, own] = torch.from_numpy(one.boxes).float()
            classes[place, own], crowd[place, own] = torch.from_numpy(one.labels), torch.from_numpy(one.crowd)
            if masks is not None and one.masks is not None:
                masks[place, own] = torch.from_numpy(np.ascontiguousarray(one.masks))
        return Instances(boxes, classes, crowd, masks)

    def most_bytes(self, part: Annotated, img_size: Size) -> int:
        """Return the bytes of the objects of an image in a batch with the fullest one."""
        box, label, crowd = 4 * torch.float32.itemsize, torch.int64.itemsize, torch.bool.itemsize
        mask = math.prod(img_size) * torch.bool.itemsize if self.masks and self.sent else 0
        return part.most_objects * (box + label + crowd + mask)

    def truth(self, labels: Objects, part: Annotated, index: int) -> Truth:
        """Return the objects as they are annotated, with their outlines where masks are measured."""
        outlines = [thing.outline for thing in things_of(part, index)] if self.masks else None
        return Truth(labels.size, labels.boxes, labels.labels, labels.crowd, outlines)


def things_of(part: Annotated, index: int) -> list[Thing]:
    """Return the objects of an image."""
    return [] if part.things is None else part.things.at(index)


def _columns(things: Sequence[Thing]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes (n, 4), labels (n,) and crowd (n,) of objects."""
    boxes = np.array([thing.box for thing in things], dtype=np.float64).reshape(-1, 4)
    return boxes, np.array([t.label for t in things], dtype=np.int64), np.array([t.crowd for t in things], dtype=bool)


def class_map(things: Sequence[Thing], size: Size) -> np.ndarray:
    """Return the class of every pixel (H, W) uint8: 0 where no object is, else the label of the smallest one there plus 1."""
    values = np.zeros(size, dtype=np.uint8)
    masks = [(drawn(thing.outline, size), thing.label) for thing in things if thing.outline is not None]
    for mask, label in sorted(masks, key=lambda entry: -int(entry[0].sum())):
        values[mask] = label + 1
    return values
