"""Classes of pixels through the command line: train, measure, predict; what does not fit is refused in one line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lmsearch.cli import main
from lmsearch.config import compose, settings_of
from lmsearch.context import DRAWING, setting
from lmsearch.data import DataInfo, EvalLoader, build_source
from lmsearch.data.reading import read_image
from lmsearch.data.tiles import classes_of, windows
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.objectives import METRICS
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.train import Precision
from lmsearch.figures.curves import curves_figure
from lmsearch.settings.tasks import Retrain
from lmsearch.tasks.parts import pictures
from lmsearch.tasks.parts.pictures import write_first_batch
from lmsearch.tasks.parts.predict_pixels import class_map
from lmsearch.tasks.parts.settle import settle
from lmsearch.tasks.parts.trained import images_per_step, load_trained

NET = ["model.depth=1", "model.embed_dim=8", "model.d_state=4", "model.patch_size=8", "device=cpu"]
SHORT = [*NET, "epochs=2", "batch_size=4", "optim.warmup_epochs=0"]
CPU = Precision(torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with masks: twelve images for training, three each for validation and test."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    assert main(["shapes", f"out={root}", "images=12", "img_size=[32,48]"]) == 0
    return root


@pytest.fixture(scope="module")
def genotype(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a genotype of one layer."""
    path = tmp_path_factory.mktemp("genotype") / "one.json"
    path.write_text('[["h", "v"]]')
    return path


@pytest.fixture(scope="module")
def run(data: Path, genotype: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a trained network."""
    folder = tmp_path_factory.mktemp("run") / "r"
    words = [f"genotype={genotype}", "data=dense", f"data.root={data}", *SHORT, f"run_dir={folder}"]
    with setting(DRAWING, True):
        assert main(["retrain", *words]) == 0
    return folder


def test_a_training_on_masks_leaves_its_numbers_weights_and_pictures(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["metric"] == "miou" and metrics["num_test"] == 3
    for split in ("val", "test"):
        known = [value for value in metrics[f"{split}_class_iou"].values() if value is not None]
        assert metrics[f"{split}_miou"] == pytest.approx(np.mean(known)) and 0 < metrics[f"{split}_pixel_accuracy"] <= 1
    assert {"best_epoch", "best_val_miou"} <= metrics.keys()
    counts = np.array(json.loads((run / "confusion.json").read_text())["counts"])
    assert counts.sum() == 3 * 32 * 48 and counts.diagonal().sum() / counts.sum() == metrics["test_pixel_accuracy"]
    rows = list(csv.DictReader((run / "results.csv").read_text().splitlines()))
    assert len(rows) == 2 and {"train_loss", "train_pixel_accuracy", "val_miou"} <= rows[0].keys()
    files = {path.name for path in run.iterdir()}
    assert files >= {"best.safetensors", "model.safetensors", "confusion.png", "curves.png", "val_batch.png"}


def test_the_picture_of_a_set_is_whole_whoever_shares_it(run: Path, data: Path, tmp_path: Path) -> None:
    source = build_source("dense", root=str(data), img_size=[32, 48])
    model, *_ = load_trained(str(run), CPU, backend="auto")
    for name, world in {"one": SINGLE, "three": World(rank=0, size=3, exchange=lambda tensor: [tensor] * 3)}.items():
        loader = EvalLoader(source.val, batch_size=3, world=world)
        run_dir = RunDir(tmp_path / name, world)
        run_dir.make()
        write_first_batch(run_dir, model, source.info, loader, CPU)
    one, three = ((tmp_path / name / "val_batch.png").read_bytes() for name in ("one", "three"))
    assert one == three


def test_evaluation_gives_the_numbers_of_the_training(run: Path, tmp_path: Path) -> None:
    assert main(["evaluate", f"checkpoint={run}", f"run_dir={tmp_path}", "device=cpu"]) == 0
    mine, before = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path, run))
    assert mine.items() <= before.items() and mine["test_miou"] > 0
    assert "batch_size: 8" in (tmp_path / "config.yaml").read_text()  # 256 images would take much memory


def test_predictions_are_label_maps_and_pictures_at_the_size_of_the_images(run: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, size in enumerate([(50, 30), (33, 71)]):
        read_image(data / "images" / "test" / "00000.png", 3).resize(size).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    (tmp_path / "in" / "sub").mkdir()
    read_image(data / "images" / "test" / "00000.png", 3).resize((9, 7)).save(tmp_path / "in" / "sub" / "0.bmp")
    out = tmp_path / "out"
    assert main(["predict", f"checkpoint={run}", f"images={tmp_path / 'in'}", f"out={out}", "device=cpu"]) == 0
    for number, size in enumerate([(50, 30), (33, 71)]):
        for folder in ("labels", "pictures"):
            with Image.open(out / folder / f"{number}.png") as written:
                assert written.size == size
    names = [one["name"] for one in json.loads((out / "classes.json").read_text())["classes"]]
    assert names[0] == "background" and len(names) == 6
    assert not (out / "labels" / "broken.png").exists()
    told = json.loads((out / "images.json").read_text())
    files = {name: (Path(one["file_name"]), one) for one in told["images"] for name in [Path(one["label_map"]).name]}
    assert {name: path.relative_to(tmp_path / "in").as_posix() for name, (path, _) in files.items()} == {
        "0.png": "0.png",
        "1.png": "1.png",
        "0-2.png": "sub/0.bmp",
    }
    assert (files["0-2.png"][1]["height"], files["0-2.png"][1]["width"]) == (7, 9) and len(told["unreadable"]) == 1
    assert told["unreadable"][0]["file_name"].endswith("broken.png") and "not a readable" in told["unreadable"][0]["error"]
    again = ["predict", f"checkpoint={run}", f"images={tmp_path / 'in'}", f"out={out}", "device=cpu"]
    assert main(again) == 2 and main([*again, "overwrite=true"]) == 0


def test_a_tiled_answer_for_a_large_image_equals_its_parts(run: Path) -> None:
    model, _, info = load_trained(str(run), CPU, backend="auto")
    large = Image.fromarray(np.random.default_rng(0).integers(0, 255, (768, 1024, 3), dtype=np.uint8))
    whole = class_map(model, info, large, CPU, tile=256, batch_size=12)
    assert whole.shape == (768, 1024)
    parts = windows((768, 1024), tile=256)
    assert len(parts) == 12
    for part in (parts[0], parts[6], parts[-1]):
        alone = class_map(model, info, part.of(large), CPU)
        rows, columns = slice(part.top, part.top + 256), slice(part.left, part.left + 256)
        assert np.array_equal(whole[rows, columns], alone)


def test_pixels_and_objects_are_answered_for_few_images_at_a_time() -> None:
    infos = [
        DataInfo("x", 1, ("a",), (8, 8), 1, (0.5,), (0.5,), target=target) for target in ("class", "segmentation", "instances")
    ]
    assert [images_per_step(None, info) for info in infos] == [256, 8, 8] and images_per_step(3, infos[1]) == 3
    assert [images_per_step(None, info, processes=3) for info in infos] == [255, 6, 6], "shared by three"
    assert images_per_step(None, infos[1], processes=12) == 12 and images_per_step(8, infos[1], processes=3) == 8


@pytest.mark.parametrize(
    ("size", "tile", "overlap"), [((50, 70), 16, 4), ((16, 40), 16, 0), ((10, 40), 16, 15), ((9, 9), None, 0)]
)
def test_windows_cover_every_pixel_and_share_what_they_must(size: tuple[int, int], tile: int | None, overlap: int) -> None:
    parts = windows(size, tile=tile, overlap=overlap)
    seen = np.zeros(size, dtype=int)
    for part in parts:
        seen[part.top : part.top + part.height, part.left : part.left + part.width] += 1
    assert seen.min() == 1 and {part.size for part in parts} == {parts[0].size}
    for before, after in zip(parts, parts[1:], strict=False):
        if before.top == after.top:
            assert before.left + before.width - after.left >= overlap


def test_windows_that_overlap_add_up_row_by_row_as_all_at_once() -> None:
    size, g = (23, 17), torch.Generator().manual_seed(0)
    parts = [(window, torch.rand(3, *window.size, generator=g)) for window in windows(size, tile=8, overlap=3)]
    total = torch.zeros(3, *size)
    for window, values in parts:
        total[:, window.top : window.top + 8, window.left : window.left + 8] += values
    assert torch.equal(classes_of(iter(parts), size), total.argmax(0))


def test_a_run_on_masks_tells_data_and_head_to_what_starts_from_it(run: Path, tmp_path: Path) -> None:
    words = [
        "retrain",
        f"init_from={run}",
        "epochs=1",
        "batch_size=4",
        "optim.warmup_epochs=0",
        f"run_dir={tmp_path}",
        "device=cpu",
    ]
    assert main(words) == 0
    config = (tmp_path / "config.yaml").read_text()
    assert "head: plain" in config and "target: segmentation" in config and "embed_dim: 8" in config


def test_the_preset_of_shapes_reads_what_lmsearch_shapes_has_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(data.parent)
    settings, source = settle(settings_of(Retrain, compose("retrain", ["genotype=none", "data=shapes"])))
    assert source.info.img_size == (32, 48) and settings.epochs and settings.head == "plain"
    monkeypatch.chdir(tmp_path)
    assert main(["retrain", "genotype=none", "data=shapes"]) == 2
    assert "shapes: no such folder" in (told := capsys.readouterr().err) and "lmsearch shapes out=shapes writes one" in told


@pytest.mark.usefixtures("drawing")
def test_all_that_is_measured_after_an_epoch_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    monkeypatch.setattr(pictures, "curves_figure", lambda epochs, panels: drawn.append(panels) or curves_figure(epochs, panels))
    told = {"train_loss": 2.0, "val_loss": 1.0, "val_box_ap": 0.5, "val_box_ap50": 0.7, "lr": 0.1}
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"epoch": epoch} | told) + "\n" for epoch in range(2)))
    pictures.write_curves(RunDir(tmp_path), METRICS["box_ap"])
    assert drawn == [{
        "loss": {"train_loss": [2.0] * 2, "val_loss": [1.0] * 2}, "box_ap": {"val_box_ap": [0.5] * 2},
        "box_ap50": {"val_box_ap50": [0.7] * 2},
    }]  # fmt: skip
    assert (tmp_path / "curves.png").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data=digits", "head=plain"], "head=plain does not learn from data=digits, which has classes; leave head out"),
        (["data=imagefolder", "data.root={data}", "head=plain"], "data=imagefolder, which has classes; leave head out"),
        (["data=digits", "frozen_stages=1"], "frozen_stages=1 is a key of heads"),
        (["data=dense", "data.root={data}", "head=plein"], "did you mean plain"),
        (["data=dense", "data.root={data}", "out_indices=[3]"], "the model has 1 levels"),
        (["data=dense", "data.root={data}", "optim.class_weights=balanced"], "needs data with classes"),
        (["data=dense", "data.root={data}", "metric=accuracy"], "accepted: miou"),
        (["data=dense", "data.root={data}/images"], "accepted: images/train"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    words: list[str], told: str, data: Path, genotype: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.format(data=data) for word in words]
    assert main(["retrain", f"genotype={genotype}", *NET, f"run_dir={tmp_path / 'r'}", *given]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert told in error and not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "set out=<folder>"),
        (["out={out}", "tile=32", "overlap=32"], "overlap=32 must be smaller than tile=32"),
        (["out={out}", "overlap=8"], "overlap=8 is of neighbouring windows; set tile= to their side"),
        (["out={out}", "annotations=a.json"], "annotations= is for networks that answer objects"),
        (["out={out}", "sheet={out}.png"], "sheet="),
        (["out={out}", "tile=4"], "out of range"),
    ],
)
def test_predictions_that_cannot_be_written_are_refused_in_one_line(
    words: list[str], told: str, run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.format(out=tmp_path / "out") for word in words]
    assert main(["predict", f"checkpoint={run}", f"images={data / 'images'}", "device=cpu", *given]) == 2
    assert told in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_comparison_pairs_images_and_its_differences_are_those_of_the_mean_iou(run: Path, tmp_path: Path) -> None:
    short = ["epochs=1", "batch_size=4", "optim.warmup_epochs=0", "search_space=localmamba8_w4", f"run_dir={tmp_path}"]
    assert main(["compare", f"genotype={run}", *short, "device=cpu"]) == 0
    told = json.loads((tmp_path / "comparison.json").read_text())
    arms = {name: arm["test_miou"] for name, arm in told["arms"].items()}
    for name, arm in arms.items():
        measured = json.loads((tmp_path / f"{name}-s0" / "metrics.json").read_text())["test_miou"]
        assert arm["mean"] == pytest.approx(measured) and 0 <= arm["low"] <= arm["mean"] <= arm["high"] <= 1
    for name in ("random", "hand-made"):
        gap = told["differences"][f"searched - {name}"]
        assert gap["mean"] == pytest.approx(arms["searched"]["mean"] - arms[name]["mean"], abs=1e-12)
    assert told["metric"] == "miou" and told["baselines"] == {} and "normal and paired" in told["interval"]


def test_a_network_is_measured_on_other_images_whose_masks_lack_a_class(run: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for kind in ("images", "annotations"):
        (other / kind / "test").mkdir(parents=True)
    pixels = read_image(data / "images" / "test" / "00000.png", 3)
    pixels.save(other / "images" / "test" / "one.png")
    Image.fromarray(np.zeros((pixels.height, pixels.width), dtype=np.uint8)).save(other / "annotations" / "test" / "one.png")
    words = ["evaluate", f"checkpoint={run}", f"data.root={other}", f"run_dir={tmp_path / 'e'}", "device=cpu"]
    assert main(words) == 0
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["num_test"] == 1 and len(metrics["test_class_iou"]) == 6
