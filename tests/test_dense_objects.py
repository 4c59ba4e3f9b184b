"""Objects: average precision of a set with one value per image; training, measuring and predicting on the command line."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_folders import write_shapes
from PIL import Image
from test_distributed import Meeting
from torch import Tensor

from lmsearch.cli import main
from lmsearch.data import DataInfo, build_source
from lmsearch.data.dense.outlines import to_rle
from lmsearch.data.instances import Instances
from lmsearch.data.loaders import EvalLoader, spread
from lmsearch.data.tiles import Window
from lmsearch.data.view import View
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.objectives import Objective, Scores, instances, objective_for
from lmsearch.engine.objectives.instances import SHOWN, run_lengths, shown_runs
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError
from lmsearch.stats.detection import Found, Truth, average_precision, evaluator
from lmsearch.tasks.parts.predict_objects import Objects, distinct, find_objects

IMAGES, CLASSES, SIDE = 40, 3, 24
HEADS = ("deformable_detr", "mask2former")
CPU = Precision(torch.device("cpu"))


@dataclass
class Seen:
    """Detections of one image."""

    scores: Tensor
    classes: Tensor
    boxes: Tensor
    masks: Tensor | None = None


@dataclass
class Answered:
    """What a head answers for a batch."""

    found: list[Seen]
    size: tuple[int, int] = (SIDE, SIDE)

    def losses(self, targets: Instances) -> Tensor:
        return torch.arange(len(targets), dtype=torch.float64)

    def detections(self) -> list[Seen]:
        return self.found


def boxes_near(boxes: Tensor, g: torch.Generator, spread: float) -> Tensor:
    return (boxes + spread * torch.randn(boxes.shape, generator=g)).clamp(0, SIDE)


def made(spread: float, *, masks: bool) -> tuple[Answered, Instances]:
    """Objects of many images, some without any, and detections that miss them by about `spread` pixels."""
    g = torch.Generator().manual_seed(1)
    corner = torch.rand(IMAGES, 4, 2, generator=g) * 12
    boxes = torch.cat([corner, corner + 4 + 6 * torch.rand(IMAGES, 4, 2, generator=g)], -1)
    classes = torch.randint(0, CLASSES, (IMAGES, 4), generator=g)
    classes[torch.rand(IMAGES, 4, generator=g) < 0.4] = -1
    drawn = filled(boxes.flatten(0, 1)).unflatten(0, (IMAGES, 4)) if masks else None
    targets = Instances(boxes, classes, torch.zeros(IMAGES, 4, dtype=torch.bool), drawn)
    found = []
    for image in range(IMAGES):
        there = targets.of_image(image)
        near = boxes_near(there.boxes[0], g, spread)
        scores = torch.rand(len(near), generator=g)
        found.append(Seen(scores, there.classes[0], near, filled(near) if masks else None))
    return Answered(found), targets


def filled(boxes: Tensor) -> Tensor:
    rows, columns = torch.arange(SIDE)[:, None] + 0.5, torch.arange(SIDE)[None] + 0.5
    left, top, right, bottom = (side[:, None, None] for side in boxes.unbind(1))
    return (columns > left) & (columns < right) & (rows > top) & (rows < bottom)


def scored(objective: Objective, answered: Answered, targets: Instances, *, size: int = 7) -> Scores:
    parts = [slice(start, start + size) for start in range(0, IMAGES, size)]
    return objective.of_set([objective.evaluation(Answered(answered.found[part]), targets[part]) for part in parts])


def test_the_precision_of_a_set_does_not_depend_on_batches_and_is_the_mean_of_the_images_values() -> None:
    answered, targets = made(1.0, masks=True)
    scores = scored(objective_for("instances"), answered, targets)
    truths = [
        Truth((SIDE, SIDE), *(part[0].numpy() for part in (t.boxes, t.classes, t.crowd)))
        for t in map(targets.of_image, range(IMAGES))
    ]
    found = [Found(one.scores.numpy(), one.classes.numpy(), one.boxes.numpy()) for one in answered.found]
    expected = average_precision(truths, found, num_classes=CLASSES)
    assert 0.2 < expected.ap < 0.9 and scores.score == pytest.approx(expected.ap, abs=1e-9)
    assert scores.told["box_ap50"] == pytest.approx(expected.ap50) and 0 < scores.told["mask_ap"] <= scores.told["mask_ap50"]
    assert scores.scores.mean().item() == pytest.approx(scores.score) and len(scores.scores) == IMAGES
    whole = scored(objective_for("instances"), answered, targets, size=IMAGES)
    assert whole.score == scores.score and torch.equal(whole.scores, scores.scores)
    by_mask = scored(objective_for("instances", metric="mask_ap"), answered, targets)
    assert by_mask.score == scores.told["mask_ap"]


def test_processes_together_measure_the_precision_of_one() -> None:
    answered, targets = made(1.0, masks=True)
    alone, objective = scored(objective_for("instances"), answered, targets), objective_for("instances")

    def share(world: World) -> Scores:
        mine = torch.arange(world.rank, IMAGES - 1, world.size)  # of an odd number of images
        batches = [objective.evaluation(Answered([answered.found[i] for i in some]), targets[some]) for some in mine.split(7)]
        return objective.of_set(batches, world=world)

    first, second = Meeting(2).run(share)
    whole = objective.of_set([objective.evaluation(Answered(answered.found[:-1]), targets[: IMAGES - 1])])
    for scores in (first, second):
        assert isinstance(scores, Scores) and scores.score == whole.score != alone.score and scores.told == whole.told
        assert torch.equal(scores.scores, whole.scores)


def test_a_few_images_with_objects_are_the_same_in_every_process(tmp_path: Path) -> None:
    source = build_source("dense", root=str(write_shapes(tmp_path, "coco")), target="instances", img_size=24)

    def few(world: World) -> tuple[Tensor, Tensor, Tensor]:
        inputs, targets, indices, *_ = spread(EvalLoader(source.train, batch_size=3, world=world), 3)
        return inputs, targets.boxes, indices

    one = few(SINGLE)
    assert one[2].tolist() == [0, 4, 7] and one[1].any()
    for found in Meeting(3).run(few):
        assert all(torch.equal(mine, its) for mine, its in zip(found, one, strict=True))


def test_paired_values_of_images_tell_a_better_detector_from_a_worse_one() -> None:
    objective = objective_for("instances")
    good, worse, same = (scored(objective, *made(spread, masks=False)) for spread in (0.5, 2.0, 0.5))
    gap = (good.scores - worse.scores).numpy()
    assert gap.mean() == pytest.approx(good.score - worse.score) and gap.mean() > 3 * gap.std(ddof=1) / math.sqrt(IMAGES)
    assert torch.equal(good.scores, same.scores)


def test_where_losses_alone_count_nothing_is_measured() -> None:
    answered, targets = made(1.0, masks=False)
    answered.detections = None  # type: ignore[assignment,method-assign]
    scores = objective_for("instances").by_loss.evaluation(answered, targets)
    assert scores.losses.tolist() == list(range(IMAGES)) and scores.parts is None


def test_mask_precision_needs_masks() -> None:
    with pytest.raises(ConfigError, match="metric=mask_ap needs objects and answers with masks"):
        scored(objective_for("instances", metric="mask_ap"), *made(1.0, masks=False))


def test_answers_of_several_windows_for_one_object_become_one() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30]])
    runs = run_lengths(torch.ones(4, 2, 2, dtype=torch.bool))
    found = Objects(Found(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 0, 1, 0]), boxes, runs), [Window(0, 1, 2, 2)] * 4)
    assert distinct(found, most=100) == [0, 2, 3] and distinct(found, most=2) == [0, 2]
    whole = found.mask(0, (3, 4))
    assert whole.sum() == 4 and whole[:2, 1:3].all()
    assert found.outline(0, (3, 4)) == to_rle(whole)


@pytest.mark.parametrize("most", [1, 60 * 50 * 3, 2**24])
def test_masks_leave_the_device_some_at_a_time_and_are_those_of_one_after_the_other(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def watched(masks: Tensor) -> list[dict[str, Any]]:
        sizes.append(len(masks))
        return run_lengths(masks)

    monkeypatch.setattr(instances, "MOST_HELD", most)
    monkeypatch.setattr(instances, "run_lengths", watched)
    view, g = View.whole((60, 50), (SIDE, SIDE)), torch.Generator().manual_seed(0)
    masks = torch.nn.functional.interpolate(torch.rand(1, 7, 4, 4, generator=g), (SIDE, SIDE))[0] > 0.5
    masks[2] = False
    expected = []
    for mask in masks:
        columns = np.asfortranarray((view.maps_back(mask[None].float())[0] > SHOWN).numpy().astype(np.uint8))
        expected.append(evaluator().mask.encode(columns))
    assert shown_runs(masks, view) == expected and sum(sizes) == 7 and max(sizes) == max(1, min(7, most // (60 * 50)))
    assert shown_runs(masks[:0], view) == []


def test_of_many_windows_few_pixels_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = torch.ones(30, SIDE, SIDE, dtype=torch.bool)
    seen = Seen(torch.linspace(1, 0.5, 30), torch.arange(30), torch.tensor([[0.0, 0, SIDE, SIDE]] * 30), masks)
    info = DataInfo("dense", 30, tuple(map(str, range(30))), (SIDE, SIDE), 3, (0.5,) * 3, (0.5,) * 3, target="instances")
    image, largest = Image.new("RGB", (4 * SIDE, 4 * SIDE)), 0

    def watched(view: View, maps: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, len(maps))
        return back(view, maps)

    back = View.maps_back
    monkeypatch.setattr(View, "maps_back", watched)
    found = find_objects(lambda x: Answered([seen] * len(x)), info, image, CPU, tile=SIDE, batch_size=4)
    assert len(found) == 100 and largest == 1 and found.found.scores.min() > 0.8
    assert [found.mask(place, (96, 96)).sum() for place in range(3)] == [SIDE**2] * 3


@pytest.mark.usefixtures("drawing")
@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_objects_are_learnt_measured_and_predicted_in_the_datas_own_ids(head: str, tmp_path: Path) -> None:
    data, run, out = (str(tmp_path / name) for name in ("data", "run", "out"))
    assert main(["shapes", f"out={data}", "format=coco", "images=16", "img_size=32"]) == 0
    (tmp_path / "g.json").write_text('[["h", "v"]]')
    net = ["model.depth=1", "model.embed_dim=16", "model.d_state=4", "epochs=1", "batch_size=4", "optim.warmup_epochs=0"]
    words = [f"genotype={tmp_path / 'g.json'}", "data=dense", f"data.root={data}", f"head={head}", *net, f"run_dir={run}"]
    assert main(["retrain", *words, "device=cpu"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    wanted = {"test_box_ap", "test_box_ap50", "val_box_ap"} | ({"test_mask_ap"} if head == "mask2former" else set())
    assert wanted <= metrics.keys() and (tmp_path / "run" / "val_batch.png").exists()
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert {name for name in line if name.startswith("val_")} >= {name.replace("test", "val") for name in wanted}
    assert main(["evaluate", f"checkpoint={run}", f"run_dir={tmp_path / 'e'}", "device=cpu"]) == 0
    again = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert {name: again[name] for name in wanted} == {name: metrics[name] for name in wanted}
    predict = ["predict", f"checkpoint={run}", f"images={data}/test", f"out={out}", "tile=24", "overlap=8", "device=cpu"]
    assert main(predict) == 0
    told = json.loads((tmp_path / "out" / "images.json").read_text())
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    known = {one["id"] for one in told["categories"]}
    assert {one["category_id"] for one in results} <= known == {3, 4, 8, 15, 40}
    assert len(told["images"]) == 4 == len(list((tmp_path / "out" / "pictures").iterdir()))
    assert np.all([one["bbox"][2] >= 0 and one["bbox"][3] >= 0 for one in results])
