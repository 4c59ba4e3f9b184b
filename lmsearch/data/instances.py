"""The objects of a batch of images, padded to the largest number of objects in one of them.

Shapes: B images, M objects of the fullest image, H W pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

NOTHING = -1  # the class of a place that holds no object


@dataclass(frozen=True, eq=False)
class Instances:
    """Objects by image. Places beyond an image's own objects have the class NOTHING, a box of zeros and an empty mask.

    A crowd is a region of many objects: no detection is wrong inside it, and none is asked for.
    """

    boxes: Tensor  # (B, M, 4) float32: left, top, right, bottom in pixels of the input
    classes: Tensor  # (B, M) int64, NOTHING where there is no object
    crowd: Tensor  # (B, M) bool
    masks: Tensor | None = None  # (B, M, H, W) bool, of data whose objects have masks

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, places: Tensor | slice | list[int]) -> Instances:
        """Return the objects of some images (n,), as many places as before."""
        return self._each(lambda part: part[places])

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.classes.device

    @property
    def present(self) -> Tensor:
        """The places that hold an object (B, M), crowds among them."""
        return self.classes != NOTHING

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Instances:
        """Return the same objects on a device."""
        return self._each(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Instances:
        """Return the same objects in memory that a GPU reads fast."""
        return self._each(Tensor.pin_memory)

    def of_image(self, place: int) -> Instances:
        """Return the objects of one image as a batch of one, without padding."""
        there = self.present[place]
        return self._each(lambda part: part[place][there][None])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Instances:
        """Return the objects with every tensor changed alike."""
        masks = None if self.masks is None else change(self.masks)
        return Instances(change(self.boxes), change(self.classes), change(self.crowd), masks)

    @classmethod
    def joined(cls, parts: Iterable[Instances]) -> Instances:
        """Return the objects of several batches as one, padded to the largest number in an image.

        Raises ValueError where some have masks and others have none.
        """
        parts = list(parts)
        masked = {part.masks is not None for part in parts}
        if len(masked) > 1:
            raise ValueError("objects with masks and objects without cannot be in one batch")
        most = max(part.classes.shape[1] for part in parts)
        boxes = torch.cat([_padded(part.boxes, most, 0) for part in parts])
        classes = torch.cat([_padded(part.classes, most, NOTHING) for part in parts])
        crowd = torch.cat([_padded(part.crowd, most, False) for part in parts])
        masks = [_padded(part.masks, most, False) for part in parts if part.masks is not None]
        return cls(boxes, classes, crowd, torch.cat(masks) if masks else None)


def _padded(values: Tensor, size: int, filling: float | bool) -> Tensor:
    """Return values (B, m, ...) with `size` places in place of m."""
    missing = size - values.shape[1]
    if missing == 0:
        return values
    return torch.cat([values, values.new_full((len(values), missing, *values.shape[2:]), filling)], dim=1)
