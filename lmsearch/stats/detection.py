"""Average precision of detections, COCO's protocol, by faster-coco-eval (extra `dense`).

Mean over the IoU thresholds 0.5, 0.55, ..., 0.95, over 101 recalls and the classes that have objects, with the 100 surest
detections of every class in an image. No crowd is asked for, and no detection inside one is wrong. Classes of size are left out.
Shapes: n objects or detections of an image, C classes, T thresholds, R recalls.
"""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from lmsearch.errors import LmsearchError

Size = tuple[int, int]
MOST = 100  # detections of every class in an image that count
NEEDED = "box and mask AP need faster-coco-eval, which is not installed; run: python -m pip install faster-coco-eval"


@dataclass(frozen=True, eq=False)
class Truth:
    """The objects of an image of `size` (height, width): boxes (n, 4) as left, top, right, bottom, classes (n,), crowd (n,).

    `outlines` are polygons or run lengths (COCO's), one for each object, where masks are measured; None: they are not.
    """

    size: Size
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    outlines: Sequence[Any] | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """The detections in an image: scores (n,), classes (n,), boxes (n, 4), and run lengths where masks are measured."""

    scores: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    outlines: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True, eq=False)
class Precision:
    """AP over all thresholds, AP at IoU 0.5, and AP of every class (C,); nan where there are no objects to be found.

    `curve` (R, C) is the precision at IoU 0.5 by recall, nan of classes without objects.
    """

    ap: float
    ap50: float
    of_class: np.ndarray
    curve: np.ndarray


def average_precision(truths: Sequence[Truth], found: Sequence[Found], *, num_classes: int, masks: bool = False) -> Precision:
    """Return the precision of detections `found` in images with these objects, of boxes or of masks.

    Raises LmsearchError where faster-coco-eval is not installed.
    """
    return Matched(truths, found, num_classes=num_classes, masks=masks).precision()


class Matched:
    """Detections that are matched with the objects of their images once, for the precision of all images and of some.

    Matching costs nearly all of the time; an image's own does not depend on the others. Arguments and errors are those of
    `average_precision`.
    """

    def __init__(self, truths: Sequence[Truth], found: Sequence[Found], *, num_classes: int, masks: bool = False) -> None:
        module = evaluator()
        self.number, self.num_classes = len(truths), num_classes
        with redirect_stdout(io.StringIO()):
            data = module.COCO(as_coco(truths, num_classes=num_classes, masks=masks))
            listed = results(found, masks=masks)
            answers = data.loadRes(listed) if listed else module.COCO(empty(data.dataset))
            self._run = module.COCOeval_faster(data, answers, kind(masks), separate_eval=True)
            self._run.params.areaRng, self._run.params.areaRngLbl = [[0, math.inf]], ["all"]
            self._run.params.maxDets = [MOST]
            self._run.evaluate()
        self._seen = list(self._run._evalImgs_cpp)  # of every class all images, one after the other

    def precision(self, places: Sequence[int] | None = None) -> Precision:
        """Return the precision in the images at these places, which ascend; None: in all."""
        some = range(self.number) if places is None else places
        self._run._evalImgs_cpp = [self._seen[c * self.number + place] for c in range(self.num_classes) for place in some]
        self._run._paramsEval.imgIds = [place + 1 for place in some]
        with redirect_stdout(io.StringIO()):
            self._run.accumulate()
        precision: np.ndarray = np.asarray(self._run.eval["precision"])[:, :, :, 0, 0]  # (T, R, C), -1: no objects
        held = np.where(precision < 0, np.nan, precision)
        of_class = np.array([mean_of(held[..., c]) for c in range(self.num_classes)])
        return Precision(mean_of(held), mean_of(held[0]), of_class, held[0])


def evaluator() -> ModuleType:
    """Return faster-coco-eval; raise LmsearchError, saying what to type, where it is not installed."""
    try:
        import faster_coco_eval
    except ImportError as error:
        raise LmsearchError(NEEDED) from error
    logging.getLogger(faster_coco_eval.__name__).setLevel(logging.WARNING)  # it tells of every step
    module: ModuleType = faster_coco_eval
    return module


def kind(masks: bool) -> str:
    """Return what faster-coco-eval calls masks and boxes."""
    return "segm" if masks else "bbox"


def mean_of(values: np.ndarray) -> float:
    """Return the mean over what is no nan, nan where nothing is left."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else math.nan


def as_coco(truths: Sequence[Truth], *, num_classes: int, masks: bool) -> dict[str, Any]:
    """Return the content of a COCO file: images, annotations and categories are numbered from 1."""
    images = [{"id": number, "height": truth.size[0], "width": truth.size[1]} for number, truth in enumerate(truths, start=1)]
    entries: list[dict[str, Any]] = []
    for number, truth in enumerate(truths, start=1):
        for place, box in enumerate(truth.boxes.tolist()):
            left, top, right, bottom = box
            entry = {
                "id": len(entries) + 1,
                "image_id": number,
                "category_id": int(truth.classes[place]) + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": int(truth.crowd[place]),
            }
            entries.append(entry | ({"segmentation": outlines_of(truth)[place]} if masks else {}))
    return {"images": images, "annotations": entries, "categories": [{"id": c + 1, "name": str(c)} for c in range(num_classes)]}


def outlines_of(part: Truth | Found) -> Sequence[Any]:
    """Return the outlines of objects or detections; raise ValueError where there are none."""
    if part.outlines is None:
        raise ValueError("masks are measured of objects and detections with outlines only")
    return part.outlines


def empty(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a COCO file without its annotations."""
    return {"images": content["images"], "annotations": [], "categories": content["categories"]}


def results(found: Sequence[Found], *, masks: bool) -> list[dict[str, Any]]:
    """Return the detections as COCO writes results."""
    listed = []
    for number, part in enumerate(found, start=1):
        for place, (score, label, box) in enumerate(
            zip(part.scores.tolist(), part.classes.tolist(), part.boxes.tolist(), strict=True)
        ):
            left, top, right, bottom = box
            entry = {"image_id": number, "category_id": int(label) + 1, "score": float(score)}
            boxed = {"bbox": [left, top, right - left, bottom - top]}
            listed.append(entry | ({"segmentation": dict(outlines_of(part)[place])} if masks else boxed))
    return listed
