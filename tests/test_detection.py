"""Average precision is COCO's: equal to pycocotools on random images, with crowds, empty images and classes without objects."""

from __future__ import annotations

import contextlib
import io
import math
import sys
from typing import Any

import numpy as np
import pytest

from lmsearch.data.dense.outlines import to_rle
from lmsearch.errors import LmsearchError
from lmsearch.stats.detection import Found, Matched, Truth, as_coco, average_precision, results

SIZE = (40, 50)
CLASSES = 5


def random_boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    corners = rng.uniform(0, 1, (number, 2, 2)) * (SIZE[1] - 8, SIZE[0] - 8)
    corners.sort(axis=1)
    boxes = np.concatenate([corners[:, 0], corners[:, 1] + rng.uniform(1, 8, (number, 2))], axis=1)
    return boxes.round(int(rng.integers(0, 3)))


def mask_of(box: np.ndarray) -> np.ndarray:
    """Return an ellipse inside a box, its middle at least."""
    left, top, right, bottom = box
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    mask = ((x - (left + right) / 2) / (right - left)) ** 2 + ((y - (top + bottom) / 2) / (bottom - top)) ** 2 < 0.25
    mask[min(int((top + bottom) / 2), SIZE[0] - 1), min(int((left + right) / 2), SIZE[1] - 1)] = True
    return mask


def polygon_of(box: np.ndarray) -> list[list[float]]:
    left, top, right, bottom = box.tolist()
    return [[left, top, right, top, right, bottom, (left + right) / 2, (top + bottom) / 2, left, bottom]]


def case(number: int) -> tuple[list[Truth], list[Found]]:
    """Return images with objects and detections: some empty, some crowds, classes without objects, at times no detections."""
    rng = np.random.default_rng(number)
    classes = rng.choice(CLASSES, size=int(rng.integers(1, CLASSES)), replace=False)
    truths, found = [], []
    for _ in range(int(rng.integers(1, 6))):
        boxes = random_boxes(rng, int(rng.integers(0, 7)) if rng.random() < 0.8 else 0)
        labels, crowd = rng.choice(classes, size=len(boxes)), rng.random(len(boxes)) < 0.2
        outlines = [
            to_rle(mask_of(box)) if c or rng.random() < 0.5 else polygon_of(box) for box, c in zip(boxes, crowd, strict=True)
        ]
        truths.append(Truth(SIZE, boxes, labels, crowd, outlines))
        near = boxes + rng.normal(0, 1.5, boxes.shape) * (rng.random((len(boxes), 1)) < 0.7)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        extra = random_boxes(rng, int(rng.integers(0, 5)))
        guesses = np.concatenate([near, near[:2], extra]) if number % 10 else extra[:0]
        scores = rng.random(len(guesses)).round(1 if number % 3 == 0 else 6)  # ties, too
        named = np.concatenate([labels, labels[: len(near[:2])], rng.choice(CLASSES, size=len(extra))])[: len(guesses)]
        found.append(Found(scores, named, guesses, [to_rle(mask_of(box)) for box in guesses]))
    return truths, found


def of_pycocotools(truths: list[Truth], found: list[Found], *, masks: bool) -> tuple[float, float]:
    """Return AP and AP50 as pycocotools gives them, -1 where there are no objects."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        data = coco.COCO()
        data.dataset = as_coco(truths, num_classes=CLASSES, masks=masks)
        data.createIndex()
        listed: list[dict[str, Any]] = results(found, masks=masks)
        if not listed:  # which pycocotools cannot load
            return (0.0, 0.0) if any(not crowd for truth in truths for crowd in truth.crowd) else (-1.0, -1.0)
        run = cocoeval.COCOeval(data, data.loadRes(listed), "segm" if masks else "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[0]), float(run.stats[1])


def check_equal(number: int) -> None:
    truths, found = case(number)
    for masks in (False, True):
        ours = average_precision(truths, found, num_classes=CLASSES, masks=masks)
        theirs = of_pycocotools(truths, found, masks=masks)
        seen = [-1.0 if math.isnan(value) else value for value in (ours.ap, ours.ap50)]
        assert seen == pytest.approx(theirs, abs=1e-9), f"case {number}, masks={masks}"


@pytest.mark.parametrize("number", range(20))
def test_average_precision_is_that_of_pycocotools(number: int) -> None:
    check_equal(number)


@pytest.mark.slow
def test_average_precision_is_that_of_pycocotools_on_200_random_cases() -> None:
    for number in range(20, 220):
        check_equal(number)


@pytest.mark.parametrize("masks", [False, True])
def test_the_precision_of_some_images_is_that_of_a_set_of_them(masks: bool) -> None:
    for number in range(6):
        truths, found = case(number)
        whole = Matched(truths, found, num_classes=CLASSES, masks=masks)
        for some in (list(range(len(truths))), list(range(1, len(truths))), list(range(0, len(truths), 2)), [len(truths) - 1]):
            alone = average_precision([truths[i] for i in some], [found[i] for i in some], num_classes=CLASSES, masks=masks)
            seen = whole.precision(some)
            np.testing.assert_equal((seen.ap, seen.ap50), (alone.ap, alone.ap50))
            np.testing.assert_array_equal(seen.of_class, alone.of_class)
            np.testing.assert_array_equal(seen.curve, alone.curve)
        again = whole.precision()
        np.testing.assert_equal(again.ap, average_precision(truths, found, num_classes=CLASSES, masks=masks).ap)


def one(score: float, box: tuple[float, ...], label: int = 0) -> Found:
    return Found(np.array([score]), np.array([label]), np.array([box]))


BOX = np.array([[5.0, 5.0, 15.0, 25.0]])
ONE = Truth(SIZE, BOX, np.array([0]), np.array([False]))
NOTHING = Found(np.zeros(0), np.zeros(0, dtype=int), np.zeros((0, 4)))


def test_a_perfect_detection_has_1_and_a_wrong_class_0() -> None:
    assert average_precision([ONE], [one(0.9, (5, 5, 15, 25))], num_classes=2).ap == 1.0
    assert average_precision([ONE], [one(0.9, (5, 5, 15, 25), 1)], num_classes=2).ap == 0.0


def test_half_of_the_box_counts_at_the_lowest_threshold_only() -> None:
    precision = average_precision([ONE], [one(0.9, (5, 5, 15, 15.5))], num_classes=1)
    assert precision.ap50 == 1.0 and precision.ap == pytest.approx(0.1)


def test_classes_without_objects_have_no_precision_and_do_not_count() -> None:
    precision = average_precision([ONE], [one(0.9, (5, 5, 15, 25))], num_classes=3)
    assert precision.of_class[0] == 1.0 and np.isnan(precision.of_class[1:]).all() and precision.ap == 1.0
    assert precision.curve.shape == (101, 3)


def test_no_detections_are_0_and_no_objects_are_nan() -> None:
    assert average_precision([ONE], [NOTHING], num_classes=1).ap == 0.0
    none = Truth(SIZE, np.zeros((0, 4)), np.zeros(0, dtype=int), np.zeros(0, dtype=bool))
    assert math.isnan(average_precision([none], [one(0.5, (1, 1, 4, 4))], num_classes=1).ap)


def test_a_hundred_detections_of_every_class_in_an_image_count() -> None:
    boxes = np.array([[n, k, n + 1, k + 1] for n in range(12) for k in range(10)], dtype=float)
    for classes, ap in ((2, 1.0), (1, 84 / 101)):  # 60 objects of each class, or 120 of one: recall ends at 100 / 120
        labels = np.arange(120) % classes
        found = Found(np.linspace(1, 0.5, 120), labels, boxes)
        truth = Truth(SIZE, boxes, labels, np.zeros(120, dtype=bool))
        assert average_precision([truth], [found], num_classes=classes).ap == pytest.approx(ap)


def test_an_object_of_exactly_32_pixels_a_side_counts_once() -> None:
    square = Truth((64, 64), np.array([[0.0, 0.0, 32.0, 32.0]]), np.array([0]), np.array([False]))
    assert average_precision([square], [one(0.5, (0, 0, 32, 32))], num_classes=1).ap == 1.0


def test_what_to_type_is_said_where_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(
        LmsearchError, match="need faster-coco-eval, which is not installed; run: python -m pip install faster-coco-eval"
    ):
        average_precision([ONE], [NOTHING], num_classes=1)
