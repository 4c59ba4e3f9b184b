"""What a head for objects answers, and the objects that it learns from.

Shapes: B images of h x w pixels, n objects of one image, C classes. Boxes are x0, y0, x1, y1 in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor

VOID = 255  # class index of pixels without a label
MOST = 100  # detections of an image, of all classes together; COCO's AP would count as many of every class


class Objects(Protocol):
    """The objects of B images, padded to M each; a class of -1 is padding. `crowd` marks regions of many objects."""

    boxes: Tensor  # (B, M, 4)
    classes: Tensor  # (B, M)
    crowd: Tensor  # (B, M) bool
    masks: Tensor | None  # (B, M, h, w) bool


@dataclass(frozen=True)
class Detections:
    """What was found in one image, the surest first: scores (n,), classes (n,), boxes (n, 4) and masks (n, h, w) or None."""

    scores: Tensor
    classes: Tensor
    boxes: Tensor
    masks: Tensor | None = None


@dataclass(frozen=True)
class DenseOutputs:
    """Answers for B images. `padded` is the size (height, width) that the network saw, `size` that of the images inside it."""

    padded: tuple[int, int]
    size: tuple[int, int]

    def losses(self, targets: Objects | Tensor) -> Tensor:
        """Return one loss per image (B,), which no other image of the batch has a part in."""
        raise TypeError(f"{type(self).__name__} does not say how it is trained")

    def detections(self, *, most: int = MOST) -> list[Detections]:
        """Return what was found in every image, at most so many each."""
        raise TypeError(f"{type(self).__name__} does not say what it finds")

    def detach(self) -> Self:
        """Return the same without gradients."""
        mine = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: value.detach() for name, value in mine.items() if isinstance(value, Tensor)}
        return replace(self, **changed)


def learnable(targets: Objects, image: int) -> Tensor:
    """Return which objects of one image are learnt from (M,): no padding, no crowd, and of some area."""
    width, height = (targets.boxes[image, :, k + 2] - targets.boxes[image, :, k] for k in (0, 1))
    return (targets.classes[image] >= 0) & ~targets.crowd[image] & (width > 0) & (height > 0)


def surest(scores: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best scores (n,) of queries and classes (Q, C), and the query and the class of each."""
    found = scores.flatten().topk(min(most, scores.numel()))
    return found.values, found.indices // scores.shape[1], found.indices % scores.shape[1]


def boxes_of(masks: Tensor) -> Tensor:
    """Return the smallest boxes (n, 4) around masks (n, h, w) bool, each of which holds a pixel."""
    sides = []
    for axis in (1, 2):  # what is left of each column, then of each row
        line = masks.any(axis).to(torch.uint8)
        first = line.argmax(1)
        last = line.shape[1] - line.flip(1).argmax(1)
        sides.append((first, last))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], 1).float()


def seeded(seed: int, device: torch.device, function: Callable[[], Tensor]) -> Tensor:
    """Call a function that draws from PyTorch's global state, as after `manual_seed(seed)`; the state stays as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return function()
