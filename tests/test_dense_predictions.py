"""Predicted objects fit the annotations that they are scored with, and what was predicted before an interruption is kept.

The network is a stand-in that knows the objects of every image and answers them a little beside, so that scores are no zeros.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_folders import write_shapes
from torch import Tensor, nn

from lmsearch.cli import main
from lmsearch.data import build_source
from lmsearch.engine.checkpoint import ModelSpec, save_model
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import FileError
from lmsearch.models.dense.outputs import Detections, boxes_of
from lmsearch.report import predictions
from lmsearch.tasks import evaluate, predict
from lmsearch.tasks.parts import predict_files

IMAGES, SIDE = 6, 24
NOTHING = Detections(torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), torch.zeros(0, SIDE, SIDE).bool())


@dataclass
class Answers:
    """What the stand-in answers for a batch."""

    found: list[Detections]
    size: tuple[int, int] = (SIDE, SIDE)

    def losses(self, targets: Any) -> Tensor:
        return torch.zeros(len(self.found))

    def detections(self) -> list[Detections]:
        return self.found


class Knowing(nn.Module):
    """Answers the objects of images that it knows, `before` each of them; with masks, moved by some pixels, or boxes alone."""

    def __init__(self, batch: Any, *, masks: bool, before: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.before = before
        g = torch.Generator().manual_seed(0)
        self.known = {}
        for place, image in enumerate(batch.inputs):
            own = batch.targets.of_image(place)
            moved = own.masks[0].roll(int(torch.randint(0, 3, (1,), generator=g)), 2)
            boxes = boxes_of(moved) if masks else own.boxes[0] + 2 * torch.rand(own.boxes[0].shape, generator=g)
            scores = torch.rand(len(boxes), generator=g).sort(descending=True).values
            self.known[image.numpy().tobytes()] = Detections(scores, own.classes[0], boxes, moved if masks else None)

    def forward(self, images: Tensor) -> Answers:
        found = []
        for image in images:
            self.before()
            found.append(self.known.get(image.numpy().tobytes(), NOTHING))
        return Answers(found)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a COCO folder whose test images have ids with gaps in another order, and whose test classes have other ids."""
    root = write_shapes(tmp_path_factory.mktemp("data"), "coco", images=4 * IMAGES, img_size=(20, 28))
    path = root / "annotations" / "instances_test.json"
    content = json.loads(path.read_text())
    ids = dict(zip((one["id"] for one in content["images"]), (40, 7, 901, 12, 3, 55), strict=True))
    for entry in content["images"]:
        entry["id"] = ids[entry["id"]]
    for entry in content["annotations"]:
        entry |= {"image_id": ids[entry["image_id"]], "category_id": 100 - entry["category_id"]}
    for entry in content["categories"]:
        entry["id"] = 100 - entry["id"]
    path.write_text(json.dumps(content | {"images": content["images"][::-1]}))
    return root


@dataclass
class Stand:
    """A checkpoint whose network is replaced by the stand-in, and what it was made for."""

    run: Path
    batch: Any
    use: Callable[[nn.Module], None]


@pytest.fixture
def stand(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    options = {"name": "dense", "root": str(data), "target": "instances", "img_size": SIDE, "in_chans": 3}
    source = build_source("dense", **{key: value for key, value in options.items() if key != "name"})
    spec = ModelSpec(
        "local_vim_nano", (("h",),), options={"head": "mask2former"}, data={"info": asdict(source.info), "source": options}
    )
    (tmp_path / "run").mkdir()
    save_model(RunDir(tmp_path / "run"), spec, {})

    def use(net: nn.Module) -> None:
        for task in (evaluate, predict):
            monkeypatch.setattr(task, "load_answering", lambda *_, **__: (net, spec, source.info))

    return Stand(tmp_path / "run", source.test.eval_batch(np.arange(IMAGES)), use)


def scored(annotations: Path, results: Path, kind: str) -> float:
    """Return AP as pycocotools gives it."""
    coco, cocoeval = (pytest.importorskip(f"pycocotools.{name}") for name in ("coco", "cocoeval"))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(str(annotations))
        run = cocoeval.COCOeval(truth, truth.loadRes(str(results)), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[0])


def words(verb: str, stand: Stand, **keys: object) -> list[str]:
    return [verb, f"checkpoint={stand.run}", "device=cpu", *(f"{key}={value}" for key, value in keys.items())]


@pytest.mark.usefixtures("drawing")
def test_predictions_have_the_precision_that_evaluation_measures_by_the_original_annotations(
    stand: Stand, data: Path, tmp_path: Path
) -> None:
    stand.use(Knowing(stand.batch, masks=True))
    assert main(words("evaluate", stand, run_dir=tmp_path / "e", batch_size=4)) == 0
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    annotations, out = data / "annotations" / "instances_test.json", tmp_path / "out"
    assert main(words("predict", stand, images=data / "test", out=out, annotations=annotations)) == 0
    assert (tmp_path / "e" / "precision_recall.png").exists()
    for kind in ("box", "mask"):
        known = [value for value in metrics[f"test_class_{kind}_ap"].values() if value is not None]
        assert len(metrics[f"test_class_{kind}_ap"]) == 5 and np.mean(known) == pytest.approx(metrics[f"test_{kind}_ap"])
    assert 0.05 < metrics["test_box_ap"] < 0.95 and 0.05 < metrics["test_mask_ap"] < 0.95
    assert scored(annotations, out / "predictions.json", "bbox") == pytest.approx(metrics["test_box_ap"], abs=1e-9)
    for file in ("predictions.json", "predictions_masks.json"):
        assert scored(annotations, out / file, "segm") == pytest.approx(metrics["test_mask_ap"], abs=1e-9)
    assert not any("bbox" in one for one in json.loads((out / "predictions_masks.json").read_text()))
    told = json.loads((out / "images.json").read_text())
    names = {one["id"]: one["name"] for one in json.loads(annotations.read_text())["categories"]}
    assert {one["id"]: one["name"] for one in told["categories"]} == names and len(told["images"]) == IMAGES


def test_annotations_that_do_not_list_the_images_are_refused_in_one_line(
    stand: Stand, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand.use(Knowing(stand.batch, masks=False))
    annotations = data / "annotations" / "instances_val.json"
    content = json.loads(annotations.read_text())
    (tmp_path / "none.json").write_text(json.dumps(content | {"images": content["images"][:1]}))
    own = [{"id": 1, "file_name": path.name, "height": 5, "width": 5} for path in sorted((data / "test").iterdir())]
    (tmp_path / "size.json").write_text(json.dumps(content | {"images": own[:1]}))
    for images, file, told in (
        (data / "test", "none.json", "lists no file_name of 5 of 6 images"),
        (own_path(data), "size.json", "annotations= is for 5x5"),
        (own_path(data), "missing.json", "cannot be read"),
    ):
        given = words("predict", stand, images=images, out=tmp_path / file[:4], annotations=tmp_path / file)
        assert main(given) == 2 and told in capsys.readouterr().err.strip().splitlines()[-1]
        assert not (tmp_path / file[:4]).exists()


def own_path(data: Path) -> Path:
    return sorted((data / "test").iterdir())[0]


def test_what_was_predicted_before_an_interruption_is_kept_and_older_results_are_gone(
    stand: Stand, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = 0

    def counting() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    stand.use(Knowing(stand.batch, masks=True, before=counting))
    out = tmp_path / "out"
    for count in (IMAGES, 3, 0):
        left = count
        given = words("predict", stand, images=data / "test", out=out, overwrite="true")
        assert main(given) == (0 if count == IMAGES else 130)
        listed = json.loads((out / "images.json").read_text())["images"]
        results = json.loads((out / "predictions.json").read_text())
        assert [one["id"] for one in listed] == list(range(1, count + 1)) and {one["image_id"] for one in results} <= set(
            range(1, count + 1)
        )
        assert len(list((out / "pictures").iterdir())) == count and (len(results) > 0) == (count > 0)
        assert (out / "predictions_masks.json").exists() == (count > 0) and not list(out.glob("*.part"))
    assert "interrupted after 0 of 6 images\n" in capsys.readouterr().err


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_images_of_which_none_can_be_read_leave_nothing_behind(
    stand: Stand, on_error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand.use(Knowing(stand.batch, masks=True))
    (tmp_path / "a.png").write_text("no image")
    out = tmp_path / "out"
    given = words("predict", stand, images=tmp_path / "a.png", out=out, on_error=on_error)
    assert main(given) == 2 and not out.exists() and "a.png" in capsys.readouterr().err
    (out / "pictures").mkdir(parents=True)
    (out / "pictures" / "mine.png").touch()
    assert main([*given, "overwrite=true"]) == 2
    assert sorted(out.rglob("*")) == [out / "pictures", out / "pictures" / "mine.png"]


def test_a_list_that_cannot_grow_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = predictions.JsonList(tmp_path / "x.json")
    listed.add([{"a": 1}])

    def half(file: Any, data: bytes) -> int:
        file.write(data[:3])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full, pytest.raises(FileError, match="No space left"):
        full.setattr(predictions, "write_all", half)
        listed.add([{"a": 2}])
    assert not (tmp_path / "x.json").exists()
    listed.add([{"a": 3}, {"a": 4}])
    listed.close()
    assert json.loads((tmp_path / "x.json").read_text()) == [{"a": 1}, {"a": 3}, {"a": 4}]


def test_on_a_full_disk_results_are_closed_and_the_first_entry_may_fail(
    stand: Stand, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand.use(Knowing(stand.batch, masks=True))
    out, written = tmp_path / "out", predictions.write_all
    entries = 0  # that fit on the disk; ends of lists go where half an entry was cut off

    def full(file: Any, data: bytes) -> int:
        nonlocal entries
        if len(data) > len("\n]\n"):
            entries -= 1
            if entries < 0:
                raise OSError(28, "No space left on device")
        return written(file, data)

    monkeypatch.setattr(predictions, "write_all", full)
    for ids in ([], [1, 2]):
        entries = 2 * len(ids)  # of boxes, and of masks
        assert main(words("predict", stand, images=data / "test", out=out, overwrite="true")) == 2
        assert "No space left on device" in capsys.readouterr().err.strip().splitlines()[-1]
        if not ids:
            assert not out.exists(), "nothing is in the way of the next try"
            continue
        assert [one["id"] for one in json.loads((out / "images.json").read_text())["images"]] == ids
        assert {one["image_id"] for one in json.loads((out / "predictions.json").read_text())} == set(ids)
        assert not list(out.glob("*.part"))


def test_results_are_closed_where_the_ids_of_images_cannot_be_written(
    stand: Stand, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, values: object) -> None:
        raise FileError(f"{path} cannot be written (No space left on device)")

    stand.use(Knowing(stand.batch, masks=True))
    monkeypatch.setattr(predict_files, "write_json", full)
    assert main(words("predict", stand, images=data / "test", out=tmp_path / "out")) == 2
    for file in ("predictions.json", "predictions_masks.json"):
        found = json.loads((tmp_path / "out" / file).read_text())
        assert max(one["image_id"] for one in found) == IMAGES
