"""Predicting objects: results as COCO writes them, in the data's own category ids, and pictures with boxes and masks.

Shapes: H W image at its own size, h w window, d detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lmsearch.data import DataInfo
from lmsearch.data.tiles import Window, windows
from lmsearch.data.view import View
from lmsearch.engine.objectives.instances import run_lengths
from lmsearch.engine.train import Precision
from lmsearch.errors import CheckpointError
from lmsearch.figures.overlay import Drawn
from lmsearch.tasks.parts.pictures import LIKELY
from lmsearch.tasks.parts.predict_pixels import outputs_of

MOST = 100  # objects of an image, as COCO counts them
SAME = 0.5  # IoU from which on two answers of one class, from windows that overlap, are one object


@dataclass(frozen=True, eq=False)
class Objects:
    """What was found in an image, the surest first: scores and classes (d,), boxes (d, 4) in its pixels.

    `masks` are those of windows (h, w) bool, each with its window; None: the network answers no masks.
    """

    scores: Tensor
    classes: Tensor
    boxes: Tensor
    masks: list[tuple[Window, Tensor]] | None = None

    def at(self, places: Tensor) -> Objects:
        """Return some of them (n,), in that order."""
        masks = None if self.masks is None else [self.masks[place] for place in places.tolist()]
        return Objects(self.scores[places], self.classes[places], self.boxes[places], masks)

    def whole_mask(self, place: int, size: tuple[int, int]) -> Tensor:
        """Return the mask of an object at the size of the image (H, W) bool."""
        if self.masks is None:
            raise ValueError("this network answers no masks")
        window, mask = self.masks[place]
        whole = torch.zeros(size, dtype=torch.bool)
        whole[window.top : window.top + window.height, window.left : window.left + window.width] = mask
        return whole


def find_objects(
    model: nn.Module,
    info: DataInfo,
    image: Image.Image,
    precision: Precision,
    *,
    tile: int | None = None,
    overlap: int = 0,
    batch_size: int = 1,
) -> Objects:
    """Return what the network finds in an image at its own size, in windows of `tile` pixels (None: as a whole).

    Of answers of one class that overlap by SAME or more, from several windows, the surest stays. Raises CheckpointError where
    the network gives no finite numbers.
    """
    parts = windows((image.height, image.width), tile=tile, overlap=overlap)
    found: list[Objects] = []
    for some, views, outputs in outputs_of(model, info, image, parts, precision, batch_size=batch_size):
        for window, view, seen in zip(some, views, outputs.detections(), strict=True):
            if not (seen.scores.isfinite().all() and seen.boxes.isfinite().all()):
                raise CheckpointError(f"the network's outputs are not finite (precision={precision.name})")
            found.append(at_home(window, view, seen))
    joined = Objects(
        torch.cat([one.scores for one in found]),
        torch.cat([one.classes for one in found]),
        torch.cat([one.boxes for one in found]),
        None if any(one.masks is None for one in found) else [mask for one in found for mask in one.masks or ()],
    )
    order = joined.scores.argsort(descending=True, stable=True)
    best = joined.at(order)
    return best.at((distinct(best) if len(parts) > 1 else torch.arange(len(order)))[:MOST])


def at_home(window: Window, view: View, seen: Any) -> Objects:
    """Return detections in a window of an image, in pixels of the image."""
    boxes = view.boxes_back(seen.boxes.float().cpu()) + torch.tensor([window.left, window.top] * 2)
    masks = None
    if seen.masks is not None:
        backs = view.maps_back(seen.masks.float().cpu()) if len(seen.masks) else seen.masks.cpu()
        masks = [(window, back > 0.5) for back in backs]
    return Objects(seen.scores.float().cpu(), seen.classes.cpu(), boxes, masks)


def distinct(objects: Objects) -> Tensor:
    """Return the places of the objects, the surest first, that no surer one of their class overlaps by SAME or more."""
    kept: list[int] = []
    for place, box in enumerate(objects.boxes):
        rivals = [other for other in kept if objects.classes[other] == objects.classes[place]]
        if not rivals or overlap_of(box, objects.boxes[rivals]).max() < SAME:
            kept.append(place)
    return torch.tensor(kept, dtype=torch.int64)


def overlap_of(box: Tensor, others: Tensor) -> Tensor:
    """Return intersection over union of one box (4,) with others (n, 4)."""
    low, high = torch.maximum(box[:2], others[:, :2]), torch.minimum(box[2:], others[:, 2:])
    inside = (high - low).clamp(min=0).prod(1)
    areas = [(one[..., 2:] - one[..., :2]).clamp(min=0).prod(-1) for one in (box, others)]
    return inside / (areas[0] + areas[1] - inside).clamp(min=1e-9)


def coco_results(objects: Objects, info: DataInfo, size: tuple[int, int], *, image_id: int) -> list[dict[str, Any]]:
    """Return the objects of one image as COCO writes results."""
    listed = []
    for place, (score, label, box) in enumerate(
        zip(objects.scores.tolist(), objects.classes.tolist(), objects.boxes.tolist(), strict=True)
    ):
        left, top, right, bottom = box
        sides = [round(value, 2) for value in (left, top, right - left, bottom - top)]
        entry = {"image_id": image_id, "category_id": category_of(info, label), "bbox": sides, "score": round(score, 5)}
        if objects.masks is not None:
            runs = run_lengths(objects.whole_mask(place, size)[None])[0]
            entry["segmentation"] = {"size": runs["size"], "counts": runs["counts"].decode()}
        listed.append(entry)
    return listed


def category_of(info: DataInfo, label: int) -> int | str | None:
    """Return the data's own id of a class, else its place from 1 on."""
    return info.categories[label] if info.categories else label + 1


def drawable(objects: Objects, size: tuple[int, int]) -> Drawn:
    """Return the objects that are likely enough, to be drawn over the image."""
    likely = (objects.scores >= LIKELY).nonzero()[:, 0]
    some = objects.at(likely)
    masks = None
    if some.masks is not None:
        whole: Sequence[np.ndarray] = [some.whole_mask(place, size).numpy() for place in range(len(likely))]
        masks = np.stack(whole) if whole else np.zeros((0, *size), dtype=bool)
    return Drawn(some.boxes.numpy(), some.classes.numpy(), masks, some.scores.numpy())
