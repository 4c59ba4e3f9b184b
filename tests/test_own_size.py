"""Metrics are those of images at their own size, whatever the size of the network's input: classes of pixels, boxes and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dense_folders import write_pairs, write_shapes
from test_dense_objects import Answered, Seen
from test_distributed import Meeting

from lmsearch.data import build_source, spread
from lmsearch.data.batch import Batch
from lmsearch.data.dense.outlines import to_rle
from lmsearch.data.info import VOID
from lmsearch.data.instances import Instances
from lmsearch.data.loaders import EvalLoader
from lmsearch.data.own_size import AT_A_TIME, OwnSize, classes_back
from lmsearch.data.view import View
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.objectives import objective_for
from lmsearch.engine.objectives.segmentation import mean_iou
from lmsearch.engine.train import Precision, evaluate
from lmsearch.stats.detection import Found, Truth, average_precision

INPUT, CLASSES = (12, 12), 3
SIZES = ((20, 10), (9, 30))  # neither of the input's proportions


def test_classes_of_pixels_are_counted_in_the_image_and_not_in_the_input() -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, CLASSES, *INPUT, generator=g)
    counts, own, seen = torch.zeros(CLASSES, CLASSES, dtype=torch.int64), [], []
    for one, size in zip(logits, SIZES, strict=True):
        truth = np.random.default_rng(size[0]).integers(0, CLASSES, size).astype(np.uint8)
        truth[:2] = VOID
        view = View.whole(size, INPUT)
        own.append(OwnSize(view, truth))
        seen.append(torch.from_numpy(view.class_map(truth).astype(np.int64)))
        height, width = view.resized
        large = F.interpolate(one[None, :, :height, :width], size, mode="bilinear")[0].argmax(0)
        for true, answer in zip(truth.flatten().tolist(), large.flatten().tolist(), strict=True):
            if true != VOID:
                counts[true, answer] += 1
    objective, targets = objective_for("segmentation"), torch.stack(seen)
    scores = objective.of_set([objective.evaluation(logits, targets, own)])
    assert torch.equal(scores.confusion, counts) and scores.score == pytest.approx(mean_iou(counts))
    assert counts.sum() == 18 * 10 + 7 * 30 and scores.scores.mean().item() == pytest.approx(scores.score)
    assert not torch.equal(objective.of_set([objective.evaluation(logits, targets)]).confusion, counts)


def test_classes_are_scaled_back_some_at_a_time_and_none_is_another() -> None:
    logits, view = torch.randn(2 * AT_A_TIME + 3, *INPUT, generator=torch.Generator().manual_seed(0)), View.whole((20, 9), INPUT)
    logits[-1] = logits[1]  # of equal ones the first
    assert torch.equal(classes_back(view, logits), view.maps_back(logits).argmax(0))
    assert classes_back(view, logits).max() > AT_A_TIME


def square(box: list[float], size: tuple[int, int]) -> np.ndarray:
    """Return the pixels (H, W) inside a box of whole pixels."""
    left, top, right, bottom = map(int, box)
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def test_boxes_and_masks_are_scaled_back_and_measured_against_the_annotations() -> None:
    boxes = [[[2.0, 4, 8, 18]], [[3.0, 2, 27, 7]]]
    own, found, expected = [], [], []
    for box, size in zip(boxes, SIZES, strict=True):
        view, mask = View.whole(size, INPUT), square(box[0], size)
        masks = torch.from_numpy(view.masks(mask[None]))
        truth = Truth(size, np.array(box), np.array([1]), np.array([False]), [to_rle(mask)])
        own.append(OwnSize(view, truth))
        scale = torch.tensor([view.scale[1], view.scale[0]] * 2)
        found.append(Seen(torch.tensor([0.9]), torch.tensor([1]), torch.tensor(box) * scale + 0.3, masks))
        back = Found(np.array([0.9]), np.array([1]), ((torch.tensor(box) * scale + 0.3) / scale).double().numpy())
        expected.append(back)
    none = torch.zeros(2, 1, dtype=torch.bool)
    targets = Instances(torch.zeros(2, 1, 4), torch.zeros(2, 1, dtype=torch.int64), none, torch.zeros(2, 1, *INPUT).bool())
    objective = objective_for("instances")
    scores = objective.of_set([objective.evaluation(Answered(found, INPUT), targets, own)])
    ap = average_precision([one.truth for one in own], expected, num_classes=CLASSES).ap
    assert scores.score == pytest.approx(ap, abs=1e-9) and 0.5 < ap < 1 and scores.told["mask_ap"] > 0.5
    assert objective.of_set([objective.evaluation(Answered(found, INPUT), targets)]).score == 0, (
        "of the input's size there is no object"
    )


def test_evaluation_gives_every_image_its_own_size_and_its_annotations(tmp_path: Path) -> None:
    data = write_shapes(tmp_path, "coco")
    source = build_source("dense", root=str(data), target="instances", img_size=16)
    batch = source.val.eval_batch(np.arange(2))
    assert batch.own is not None
    for place, own in enumerate(batch.own):
        assert own.view.size == own.truth.size == (24, 32) and own.view.img_size == (16, 16)
        things = source.val.sample(place).things
        assert own.truth.boxes.tolist() == [list(thing.box) for thing in things] and len(own.truth.outlines) == len(things)
    alone, both = batch.take(torch.tensor([1])), Batch.joined([batch, batch])
    assert alone.own == (batch.own[1],) and both.own == batch.own * 2
    assert source.train.train_batch(np.arange(2), seed=0, epoch=0).own is None


def test_every_labelled_pixel_of_the_images_counts_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 2, size).astype(np.uint8) for size in ((7, 9), (20, 5))]
    write_pairs(write_pairs(tmp_path, masks), masks, split="val")
    source = build_source("dense", root=str(tmp_path), img_size=8, in_chans=1)
    net = torch.nn.Conv2d(1, 2, 3, padding=1)
    batch = source.val.eval_batch(np.arange(2))
    scores = evaluate(net, [batch], objective_for("segmentation"), Precision(torch.device("cpu"), micro_batch=1))
    assert scores.confusion.sum() == 7 * 9 + 20 * 5


def test_images_that_are_spread_over_a_set_know_their_own_size_in_every_process(tmp_path: Path) -> None:
    val = build_source("dense", root=str(write_shapes(tmp_path, "masks")), img_size=list(INPUT)).train

    def few(world: World) -> Batch:
        return spread(EvalLoader(val, batch_size=2, world=world), 5)

    one = few(SINGLE)
    assert one.own is not None and len(one.own) == 5
    for found in Meeting(2).run(few):
        assert found.own is not None
        assert all(np.array_equal(own.truth, its.truth) for own, its in zip(found.own, one.own, strict=True))
        assert found.take(torch.tensor([4])).own is not None
