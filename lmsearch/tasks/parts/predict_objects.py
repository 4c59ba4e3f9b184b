"""Predicting objects: results as COCO writes them, and pictures with boxes and masks.

Masks are kept as run lengths of their window, so that few pixels are held at a time, whatever the size of an image.
Shapes: H W image at its own size, h w window, d detections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from lmsearch.data import DataInfo
from lmsearch.data.tiles import Window, windows
from lmsearch.engine.objectives.instances import found_in, run_lengths
from lmsearch.engine.train import Precision
from lmsearch.errors import CheckpointError
from lmsearch.figures.overlay import Drawn
from lmsearch.stats.detection import Found, evaluator
from lmsearch.tasks.parts.pictures import LIKELY
from lmsearch.tasks.parts.predict_pixels import outputs_of

MOST = 100  # objects of an image, of all classes together; COCO's AP would count as many of every class
SAME = 0.5  # IoU from which on two answers of one class, from windows that overlap, are one object
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Objects:
    """What was found in an image, the surest first: boxes are in its pixels, outlines in those of the windows (d) they are in."""

    found: Found
    windows: Sequence[Window]

    def __len__(self) -> int:
        return len(self.windows)

    def at(self, places: Sequence[int]) -> Objects:
        """Return some of them, in that order."""
        mine, outlines = np.asarray(places, dtype=np.int64), self.found.outlines
        kept = None if outlines is None else [outlines[place] for place in places]
        found = Found(self.found.scores[mine], self.found.classes[mine], self.found.boxes[mine], kept)
        return Objects(found, [self.windows[place] for place in places])

    def mask(self, place: int, size: Size) -> np.ndarray:
        """Return the mask of an object at the size of the image (H, W) bool."""
        whole, window = np.zeros(size, dtype=bool), self.windows[place]
        rows, columns = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
        whole[rows, columns] = evaluator().mask.decode(self.runs(place)).astype(bool)
        return whole

    def runs(self, place: int) -> Mapping[str, Any]:
        """Return the run lengths of an object in its window."""
        if self.found.outlines is None:
            raise ValueError("this network answers no masks")
        return self.found.outlines[place]

    def outline(self, place: int, size: Size) -> dict[str, Any]:
        """Return the run lengths of an object in the image, as JSON holds them."""
        whole = self.windows[place].size == size
        runs = self.runs(place) if whole else run_lengths(torch.from_numpy(self.mask(place, size))[None])[0]
        return {"size": list(size), "counts": runs["counts"].decode()}


@dataclass(frozen=True, eq=False)
class MasksAtHome:
    """The masks of objects in an image of `size`, each made when it is asked for."""

    objects: Objects
    size: Size

    def __getitem__(self, place: int) -> np.ndarray:
        return self.objects.mask(place, self.size)


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
            found.append(at_home(window, found_in(seen, view, masked=True)))
    whole = joined(found)
    best = whole.at(np.argsort(-whole.found.scores, kind="stable").tolist())
    return best.at(distinct(best, most=MOST) if len(parts) > 1 else range(len(best))[:MOST])


def at_home(window: Window, found: Found) -> Objects:
    """Return detections in a window of an image, with boxes in pixels of the image."""
    boxes = found.boxes + np.array([window.left, window.top] * 2)
    return Objects(Found(found.scores, found.classes, boxes, found.outlines), [window] * len(boxes))


def joined(parts: Sequence[Objects]) -> Objects:
    """Return the objects of several windows as one, in their order."""
    scores, classes, boxes = (
        np.concatenate([getattr(one.found, name) for one in parts]) for name in ("scores", "classes", "boxes")
    )
    masked = all(one.found.outlines is not None for one in parts)
    outlines = [runs for one in parts for runs in one.found.outlines or ()] if masked else None
    return Objects(Found(scores, classes, boxes, outlines), [window for one in parts for window in one.windows])


def distinct(objects: Objects, *, most: int) -> list[int]:
    """Return the places of the objects, the surest first, that no surer one of their class overlaps by SAME or more.

    No more than `most` are looked for.
    """
    classes, boxes = objects.found.classes, objects.found.boxes
    kept: list[int] = []
    for place, (label, box) in enumerate(zip(classes, boxes, strict=True)):
        if len(kept) == most:
            break
        rivals = boxes[kept][classes[kept] == label]
        if not len(rivals) or overlap_of(box, rivals).max() < SAME:
            kept.append(place)
    return kept


def overlap_of(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return intersection over union of one box (4,) with others (n, 4)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    inside = (high - low).clip(min=0).prod(1)
    areas = [(one[..., 2:] - one[..., :2]).clip(min=0).prod(-1) for one in (box, others)]
    shares: np.ndarray = inside / (areas[0] + areas[1] - inside).clip(min=1e-9)
    return shares


def coco_results(objects: Objects, categories: Sequence[Any], size: Size, *, image_id: int) -> list[dict[str, Any]]:
    """Return the objects of one image as COCO writes results; numbers are those that evaluation measures, not rounded."""
    found, listed = objects.found, []
    for place, (score, label, box) in enumerate(
        zip(found.scores.tolist(), found.classes.tolist(), found.boxes.tolist(), strict=True)
    ):
        left, top, right, bottom = box
        entry = {"image_id": image_id, "category_id": categories[label], "score": score}
        entry |= {"bbox": [left, top, right - left, bottom - top]}
        if found.outlines is not None:
            entry["segmentation"] = objects.outline(place, size)
        listed.append(entry)
    return listed


def drawable(objects: Objects, size: Size) -> Drawn:
    """Return the objects that are likely enough, to be drawn over the image."""
    some = objects.at(np.flatnonzero(objects.found.scores >= LIKELY).tolist())
    masks = None if some.found.outlines is None else MasksAtHome(some, size)
    return Drawn(some.found.boxes, some.found.classes, masks, some.found.scores)
