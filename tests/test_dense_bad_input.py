"""What is wrong with masks, boxes and annotations ends `lmsearch retrain data=dense` in one line, before anything is written."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_folders import coco, rows, write_coco, write_pairs, write_picture
from test_data_coco import write_yolo

from lmsearch.cli import main
from lmsearch.config import compose, settings_of
from lmsearch.settings.tasks import Retrain
from lmsearch.tasks.parts.settle import settle

NET = ["model.depth=1", "model.embed_dim=8", "model.d_state=4", "model.patch_size=4", "device=cpu", "epochs=1", "batch_size=2"]
READ = ["data=dense", "data.img_size=8", "data.in_chans=1", "optim.warmup_epochs=0"]
IMAGES = [{"id": id, "file_name": f"{id}.png", "height": 6, "width": 8} for id in (5, 9, 11, 12)]
Make = Callable[[Path], object]


def refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Train on a folder, which must fail before anything is written; return the one line that says why."""
    (tmp_path / "g.json").write_text('[["h", "v"]]')
    run = tmp_path / "run"
    given = [f"genotype={tmp_path / 'g.json'}", *READ, f"data.root={folder}", *NET, *words, f"run_dir={run}"]
    assert main(["retrain", *given]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("INFO", "WARNING"))]
    assert len(told) == 1 and told[0].startswith("lmsearch: error: ") and not run.exists()
    return told[0]


def masks(folder: Path, *more: Make) -> Path:
    """Write four images with masks of two classes, and what is wrong with them."""
    write_pairs(folder, [rows(0, 1)] * 4)
    (folder / "classes.txt").write_text("ground\nthing\n")
    for one in more:
        one(folder)
    return folder


def mask(name: str, values: np.ndarray) -> Make:
    """Return what writes another mask."""
    return lambda folder: write_picture(folder / "annotations" / name, values)


def missing(*numbers: int) -> Make:
    """Return what deletes masks."""
    return lambda folder: [(folder / "annotations" / "train" / f"{number}.png").unlink() for number in numbers]


def annotated(**changes: Any) -> dict[str, Any]:
    """Return the content of a COCO file whose object is changed."""
    content = coco(IMAGES)
    content["annotations"][0].update(changes)
    return content


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([mask("train/1.png", rows(0, 1, size=(4, 8)))], "train/1.png: the mask has 4x8 pixels, the image 6x8 (upright)"),
        ([mask("train/2.png", rows(0, 7))], "2.png: the mask holds 1 value(s) without a class: 7; the classes are 0 ground, 1"),
        (
            [lambda folder: write_pairs(folder, [rows(0, 1), rows(1, 9)], split="val")],
            "val/1.png: the mask holds 1 value(s) without a class: 9",
        ),
        ([missing(0, 2, 3)], "annotations/train: 3 image(s) have no mask of the same stem: 0, 2, 3"),
        (
            [lambda folder: (folder / "classes.txt").unlink(), *(mask(f"train/{n}.png", rows(255)) for n in range(4))],
            "the masks hold no two classes: nothing, beside void (255)",
        ),
    ],
    ids=["size", "value", "value-of-val", "missing", "void"],
)  # fmt: skip
def test_masks(more: list[Make], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in refused(masks(tmp_path / "data", *more), tmp_path, capsys)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (annotated(bbox=[6, 2, 9, 2]), "annotation 1 has a box that reaches outside its image of 6x8: left 6, top 2, right 15"),
        (annotated(bbox=[1, 2, 0, 2]), "annotation 1 has a box of no area: left 1, top 2, right 1, bottom 4"),
        (annotated(segmentation=[[1, 2, 4, 2]]), "annotation 1 has a polygon of 2 point(s), and a polygon has at least 3"),
        (annotated(category_id=99), "annotation 1 has category_id 99, which is not listed; listed: 7"),
        (coco([*IMAGES, IMAGES[0]]), "the image id is given twice: 5"),
        ("", "not valid JSON at line 1, column 1 (Expecting value); is the file complete?"),
        ("{}", "images is None; expected a list of objects"),
        (coco(IMAGES, annotations=[]), "annotations is an empty list: all 4 images are empty; nothing could be learned"),
        ('{"images": [{"id": 5, "file_na', "not valid JSON at line 1, column 23 (Unterminated string starting at)"),
    ],
    ids=["outside", "no-area", "two-points", "category", "twice", "empty", "nothing-in-it", "no-objects", "cut"],
)  # fmt: skip
def test_coco_files(content: object, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_coco(tmp_path / "data", content)
    error = refused(folder, tmp_path, capsys, "head=deformable_detr")
    assert told in error and "annotations/instances_train.json" in error


def test_masks_are_asked_for_where_there_are_boxes_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = annotated()
    content["annotations"].append(content["annotations"][0] | {"id": 2, "image_id": 9, "segmentation": []})
    folder = write_coco(tmp_path / "data", content)
    told = refused(folder, tmp_path, capsys, "head=mask2former")
    assert "head=mask2former learns from the outline of every object, but 1 of 2 objects have a box only" in told
    assert "head=deformable_detr learns boxes" in told
    told = refused(folder, tmp_path, capsys, "head=deformable_detr", "metric=mask_ap")
    assert "metric=mask_ap needs answers with masks, and head=deformable_detr answers boxes alone" in told


def test_more_classes_than_pixels_can_be_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    categories = [{"id": number, "name": f"c{number}"} for number in range(1, 256)]
    folder = write_coco(tmp_path / "data", coco(IMAGES, categories=categories))
    told = refused(folder, tmp_path, capsys, "head=plain")
    assert "its 255 classes and the ground are more than the 255 that a pixel can be of; train objects on it" in told


def test_boxes_of_no_area_are_left_out_and_counted_with_the_preset_of_coco(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = annotated()
    content["annotations"].append(content["annotations"][0] | {"id": 2, "bbox": [1, 2, 0, 2]})
    folder = write_coco(tmp_path / "data", content)
    cfg = compose("retrain", ["genotype=none", "data=coco", f"data.root={folder}", "data.img_size=8", "head=deformable_detr"])
    source = settle(settings_of(Retrain, cfg))[1]
    assert "1 object(s) are left out, the first:" in caplog.text and "annotation 2 has a box of no area" in caplog.text
    assert source.info.class_names == ("square",)


def test_a_head_that_answers_boxes_alone_gets_no_masks(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "data", annotated())
    masked = {}
    for head in ("deformable_detr", "mask2former"):
        words = ["genotype=none", "data=dense", f"data.root={folder}", "data.img_size=8", f"head={head}"]
        source = settle(settings_of(Retrain, compose("retrain", words)))[1]
        assert source.val.eval_batch(np.arange(1)).own[0].truth.outlines is not None
        masked[head] = source.train.train_batch(np.arange(1), seed=0, epoch=0).targets.masks is not None
    assert masked == {"deformable_detr": False, "mask2former": True}


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("0 0.9 0.5 0.5 0.5\n", "0.txt: line 1 has a box that reaches outside its image of 6x8"),
        ("0 0.5 0.5 0 0.5\n", "0.txt: line 1 has a box of no area"),
        ("0 0.1 0.1 0.5 0.5 0.9\n", "0.txt: line 1 has 6 numbers; expected a class and a box (4 numbers) or a polygon"),
        ("3 0.5 0.5 0.5 0.5\n", "0.txt: line 1 has class 3, which is not among the 2 of data.yaml"),
        ("", "all 4 images are empty; nothing could be learned or measured"),
    ],
    ids=["outside", "no-area", "two-points", "class", "empty"],
)
def test_yolo_folders(labels: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in refused(write_yolo(tmp_path / "data", labels), tmp_path, capsys, "head=deformable_detr")


def test_an_image_of_another_size_than_its_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_coco(tmp_path / "data", coco(IMAGES))
    write_picture(folder / "train" / "9.png", np.zeros((8, 6), dtype=np.uint8))
    told = refused(folder, tmp_path, capsys, "head=deformable_detr")
    assert "9.png: the image has 8x6 pixels (upright), its annotations are for 6x8; data.on_error=skip leaves such files" in told


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("transformers", "head=deformable_detr needs Transformers, which is not installed; run: python -m pip install 'transf"),
        ("faster_coco_eval", "need faster-coco-eval, which is not installed; run: python -m pip install faster-coco-eval"),
    ],
)
def test_what_to_type_where_an_extra_is_not_installed(
    module: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == module else find(name, *more))
    monkeypatch.setitem(sys.modules, module, None)
    folder = write_coco(tmp_path / "data", coco(IMAGES))
    assert told in refused(folder, tmp_path, capsys, "head=deformable_detr")
