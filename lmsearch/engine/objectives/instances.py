"""Objects: the loss is the head's own, and what is judged is average precision over a whole set.

Shapes: B images of a batch, n of a set, d detections of an image, h w input of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmsearch.data.instances import Instances
from lmsearch.data.own_size import OwnSize, WayBack
from lmsearch.data.view import View
from lmsearch.engine.objectives.metrics import METRICS
from lmsearch.engine.objectives.objective import Objective, OfSet, Outputs
from lmsearch.errors import ConfigError
from lmsearch.stats.detection import Found, Matched, Truth, evaluator

GROUPS = 20  # of images that are left out in turn, for the spread of a precision
BOXES, MASKS = "box", "mask"
MOST_HELD = 2**24  # pixels of masks that wait for their transfer, a byte each
SHOWN = 0.5  # of a pixel of the image that a mask must cover


@dataclass(frozen=True, eq=False)
class Image:
    """The objects and the detections of one image, at its own size where that is known."""

    truth: Truth
    found: Found

    @property
    def masked(self) -> bool:
        """Whether both have masks."""
        return self.truth.outlines is not None and self.found.outlines is not None


def detection(label_smoothing: float = 0.0, *, metric: str = "box_ap", class_weights: Tensor | None = None) -> Objective:
    """The loss that a head's DenseOutputs gives for Instances, one per image, judged by box or mask AP of the whole set.

    Labels are smoothed and classes weighed by the head itself, if at all.
    """

    def losses(outputs: Outputs, targets: Instances) -> Tensor:
        own: Tensor = outputs.losses(targets)
        return own.float()

    def no_scores(outputs: Outputs, targets: Instances) -> Tensor:
        return torch.zeros(len(targets), device=targets.device)

    def never(sums: Tensor) -> float:
        raise TypeError("average precision is made of the detections of a set, not of sums")

    return Objective(
        METRICS[metric], losses, no_scores, lambda _: None, lambda outputs, targets: None, never,
        parts=images_of, of_parts=partial(of_images, metric=metric), measured=located,
    )  # fmt: skip


def images_of(found: Sequence[Found], truths: Sequence[Truth]) -> tuple[Image, ...]:
    """Return objects and detections of every image of a batch."""
    return tuple(Image(truth, seen) for truth, seen in zip(truths, found, strict=True))


def located(outputs: Outputs, targets: Instances, own: Sequence[OwnSize] | None) -> tuple[list[Found], list[Truth]]:
    """Return detections and objects of every image, in pixels of the image where `own` tells its size, else of the input.

    Of an image at its own size the annotations count as they are, and answers are scaled back to it.
    """
    seen = outputs.detections()
    masked = targets.masks is not None
    if own is not None:
        return [found_in(one, place.view, masked=masked) for one, place in zip(seen, own, strict=True)], [o.truth for o in own]
    size = tuple(outputs.size)
    whole = View.whole(size, size)
    truths = [true_objects(targets.of_image(place).to("cpu"), size) for place in range(len(seen))]
    return [found_in(one, whole, masked=masked) for one in seen], truths


def true_objects(targets: Instances, size: tuple[int, int]) -> Truth:
    """Return the objects of a batch of one image, in pixels of the input."""
    boxes, classes, crowd = (part[0].numpy() for part in (targets.boxes, targets.classes, targets.crowd))
    outlines = None if targets.masks is None else run_lengths(targets.masks[0])
    return Truth(size, boxes.astype(np.float64), classes, crowd, outlines)


def found_in(seen: Any, view: WayBack, *, masked: bool) -> Found:
    """Return the detections of one image that the input showed by `view`, in pixels of the image."""
    scores, labels = (part.float().cpu().numpy().astype(np.float64) for part in (seen.scores, seen.classes))
    boxes = view.boxes_back(seen.boxes.float().cpu()).numpy().astype(np.float64)
    outlines = None
    if masked and seen.masks is not None:
        outlines = shown_runs(seen.masks, view)
    return Found(scores, labels.astype(np.int64), boxes, outlines)


def shown_runs(masks: Tensor, view: WayBack) -> list[dict[str, Any]]:
    """Return masks (d, h, w) of the input as run lengths of the image.

    They are scaled one after the other, since images may be large, and leave the device some at a time, since each transfer waits
    for it.
    """
    runs: list[dict[str, Any]] = []
    held: list[Tensor] = []
    for mask in masks:
        held.append(view.maps_back(mask[None].float())[0] > SHOWN)
        if (len(held) + 1) * held[0].numel() > MOST_HELD:
            runs += run_lengths(torch.stack(held))
            held = []
    return runs + run_lengths(torch.stack(held)) if held else runs


def run_lengths(masks: Tensor) -> list[dict[str, Any]]:
    """Return masks (d, h, w) bool as COCO's compressed run lengths."""
    if len(masks) == 0:
        return []
    columns = masks.transpose(1, 2).contiguous().cpu().numpy().view(np.uint8)  # (d, w, h): run lengths go down the columns
    listed: list[dict[str, Any]] = evaluator().mask.encode(columns.transpose(2, 1, 0))
    return [{"size": list(one["size"]), "counts": one["counts"]} for one in listed]


def of_images(images: Sequence[Image], *, metric: str) -> OfSet:
    """Return the AP of a set, further precisions by name, and one value per image (n,) whose mean is the AP.

    Values come from a delete-a-group jackknife: image i is in group g = i mod G, AP_g is the AP without that group,
    and p_g = G AP - (G - 1) AP_g. Then v_i = AP + sqrt(n / G) (p_g - mean(p)): the standard error of their mean is that of the
    AP, and differences of two networks on the same images are paired.
    """
    kinds = (BOXES, MASKS) if all(image.masked for image in images) else (BOXES,)
    if (judged := metric.partition("_")[0]) not in kinds:
        raise ConfigError(f"metric={metric} needs objects and answers with masks; of these there are boxes only")
    told: dict[str, float] = {}
    matched = {kind: matches(images, kind) for kind in kinds}
    precisions = {kind: found.precision() for kind, found in matched.items()}
    for kind, found in precisions.items():
        told |= {f"{kind}_ap": finite(found.ap), f"{kind}_ap50": finite(found.ap50)}
    value = told[metric]
    groups = np.arange(len(images)) % min(GROUPS, len(images))
    number = int(groups.max(initial=0)) + 1
    if number < 2:
        return OfSet(value, torch.full((len(images),), value, dtype=torch.float64), told, precisions)
    left = [finite(matched[judged].precision(np.flatnonzero(groups != g).tolist()).ap) for g in range(number)]
    pseudo = number * value - (number - 1) * np.array(left)
    each = np.sqrt(len(images) / number) * (pseudo - pseudo.mean())[groups]
    return OfSet(value, torch.from_numpy(value + each - each.mean()), told, precisions)


def matches(images: Sequence[Image], kind: str) -> Matched:
    """Return the detections in some images beside their objects, of boxes or of masks."""
    classes = 1 + max((int(part.classes.max(initial=-1)) for image in images for part in (image.truth, image.found)), default=0)
    truths, found = [image.truth for image in images], [image.found for image in images]
    return Matched(truths, found, num_classes=max(classes, 1), masks=kind == MASKS)


def finite(value: float) -> float:
    """Return a precision, 0 where there is no object to be found."""
    return 0.0 if np.isnan(value) else value
