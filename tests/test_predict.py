"""lmsearch predict: results as they come, in every format; broken files, odd names, and the accuracy that evaluate reports."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lmsearch.cli import main
from lmsearch.data import DataInfo
from lmsearch.data.ahead import AHEAD, pieces_read
from lmsearch.data.predict import find_files
from lmsearch.data.reading import read_image
from lmsearch.engine.train import Precision
from lmsearch.errors import CheckpointError, DataError, FileError
from lmsearch.figures.sheet import spaced
from lmsearch.report import predictions
from lmsearch.tasks import predict

CLASSES = ("across, wide", "down")


def write_bars(path: Path, kind: int, rng: np.random.Generator, *, size: tuple[int, int] = (16, 16)) -> None:
    image = rng.normal(60, 25, (*size, 3))
    image[(slice(None, None, 4), slice(None)) if kind == 0 else (slice(None), slice(None, None, 4))] += 60
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("my images"), np.random.default_rng(0)
    for split, number in (("train", 12), ("val", 9)):
        for kind, name in enumerate(CLASSES):
            for i in range(number):
                size = (16, 16) if split == "train" else [(16, 16), (20, 31), (40, 18)][i % 3]
                write_bars(root / split / name / f"{i}{['.png', '.jpg'][i % 2]}", kind, rng, size=size)
    return root


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "mine.json").write_text('[["h"], ["v", "h_flip"]]')
    data = ["data=imagefolder", f"data.root={root}", "data.img_size=16"]
    model = ["model.patch_size=4", "model.embed_dim=16", "model.depth=2", "batch_size=8"]
    recipe = ["epochs=6", "optim.warmup_epochs=0", "optim.lr=0.01"]
    assert main(["retrain", *data, *model, *recipe, f"genotype={folder / 'mine.json'}", f"run_dir={folder / 'run'}"]) == 0
    return folder / "run"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_the_accuracy_of_the_rows_is_that_of_evaluate(trained: Path, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "x.csv"
    assert main(["predict", f"checkpoint={trained}", f"images={root / 'val'}", f"out={out}", "batch_size=7"]) == 0
    rows = rows_of(out)
    right = [row["class"] == Path(row["path"]).parent.name for row in rows]
    assert main(["evaluate", f"checkpoint={trained}", f"run_dir={tmp_path / 'e'}"]) == 0
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert len(rows) == 18 and sum(right) / 18 == pytest.approx(metrics["test_accuracy"], abs=1e-7)
    assert len({row["class"] for row in rows}) == 2, "else this could not fail"
    assert list(rows[0]) == ["path", "class", "probability", "class2", "probability2", "error"]
    assert all(float(r["probability"]) >= float(r["probability2"]) and not r["error"] for r in rows)


class Constant(torch.nn.Module):
    """Answers every image alike."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images), 4), self.value)


def answers(model: torch.nn.Module, path: Path) -> list[str]:
    """Return the two classes predicted for one image."""
    Image.new("L", (4, 4)).save(path)
    info = DataInfo("test", 4, ("a", "b", "c", "d"), (4, 4), 1, (0.5,), (0.5,))
    options = {"batch_size": 2, "top": 2, "on_error": "raise"}
    batches = predict.predictions(model, info, [path], Precision(torch.device("cpu"), "fp32"), **options)
    return [name for name, _ in next(batches)[0].classes]


def test_equal_answers_are_ranked_as_evaluation_counts_them(tmp_path: Path) -> None:
    assert answers(Constant(0.0), tmp_path / "a.png") == ["a", "b"] and torch.zeros(1, 4).argmax(1).item() == 0


@pytest.mark.parametrize("size", [1, 3, 20])
def test_threads_that_read_ahead_change_neither_order_nor_errors(size: int) -> None:
    read = []

    def half(number: int) -> float:
        read.append(number)
        if number == 13:
            raise DataError("13 cannot be read")
        return number / 2

    numbers = list(range(11))
    assert [*pieces_read(numbers, half, size=size, threads=3)] == [*pieces_read(numbers, half, size=size)]
    for threads in (0, 3):
        seen = []
        with pytest.raises(DataError, match="13 cannot"):
            seen.extend(pieces_read(range(10, 16), half, size=2, threads=threads))
        assert seen == [[(10, 5.0), (11, 5.5)]]
    read.clear()
    pieces = pieces_read(range(100, 200), half, size=size, threads=2)
    next(pieces)
    pieces.close()
    assert len(read) <= (AHEAD + 1) * size


def test_predictions_are_the_same_with_threads(trained: Path, odd: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = ["predict", f"checkpoint={trained}", f"images={odd}", "batch_size=2"]
    assert main([*words, f"out={tmp_path / 'one.csv'}"]) == 0
    monkeypatch.setattr(predict, "reading_threads", lambda device: 2)
    assert main([*words, f"out={tmp_path / 'two.csv'}"]) == 0
    assert rows_of(tmp_path / "one.csv") == rows_of(tmp_path / "two.csv")


def test_a_network_that_diverged_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a.png: the network's outputs are not finite"):
        answers(Constant(float("nan")), tmp_path / "a.png")


ODD = ('a "b", c.png', "line\nbreak.png", "=1+1.png", "return\rhere.png", os.fsdecode(b"latin\xe9.png"), "naïve 日本.png")


@pytest.fixture
def odd(root: Path, tmp_path: Path) -> Path:
    """Return a folder of images with odd names, and one that is broken."""
    source = root / "val" / CLASSES[0] / "0.png"
    for name in ODD:
        shutil.copy(source, tmp_path / name)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "broken.png").write_bytes(source.read_bytes()[:200])
    return tmp_path


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json"])
def test_every_name_comes_back_and_a_broken_file_is_part_of_the_results(
    trained: Path, odd: Path, tmp_path_factory: pytest.TempPathFactory, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path_factory.mktemp("out") / f"x{ending}"
    assert main(["predict", f"checkpoint={trained}", f"images={odd}", f"out={out}", "batch_size=3", "top=1"]) == 0
    if ending == ".csv":
        rows = rows_of(out)
    elif ending == ".jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert all(list(row) == ["path", "class", "probability", "error"] for row in rows)
    else:
        found = json.loads(out.read_text())
        rows = [{"path": p, "error": entry.pop("error", None), "class": next(iter(entry), None)} for p, entry in found.items()]
    broken = rows.pop([row["path"] for row in rows].index(str(odd / "sub" / "broken.png")))
    assert "not a readable image" in broken["error"] and not broken["class"]
    assert sorted(row["path"] for row in rows) == sorted(str(odd / name) for name in ODD)
    assert all(row["class"] in CLASSES and not row["error"] for row in rows)
    assert f"6 images predicted, 1 could not be read   written: {out}" in capsys.readouterr().out


def test_without_a_file_every_image_is_one_line(trained: Path, odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", f"checkpoint={trained}", f"images={odd}", "top=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and r"line\nbreak.png: " in lines[[r"line\n" in line for line in lines].index(True)]


def test_a_broken_file_can_stop_the_run_and_what_was_done_stays(
    trained: Path, odd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = odd / "x.csv"
    words = [f"checkpoint={trained}", f"images=[{odd / '=1+1.png'},{odd / 'sub'}]", f"out={out}", "batch_size=1"]
    assert main(["predict", *words, "on_error=raise"]) == 2
    assert [row["path"] for row in rows_of(out)] == [str(odd / "=1+1.png")]
    assert "broken.png: not a readable image" in capsys.readouterr().err


def test_images_of_which_none_can_be_read_are_an_error_and_are_listed(
    trained: Path, odd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = odd / "x.csv"
    assert main(["predict", f"checkpoint={trained}", f"images={odd / 'sub'}", f"out={out}"]) == 2
    assert "none of the 1 images could be read, first: " in capsys.readouterr().err and len(rows_of(out)) == 1


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_an_interrupted_run_leaves_the_batches_that_it_did(
    trained: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    real, out = predict.read_tensor, tmp_path / f"x{ending}"

    def interrupted(path: Path, info: DataInfo) -> torch.Tensor:
        if path.name == "5.jpg":
            kept.append(out.read_text().count("\n"))  # as another process would see it
            raise KeyboardInterrupt
        return real(path, info)

    kept: list[int] = []
    monkeypatch.setattr(predict, "read_tensor", interrupted)
    words = [f"checkpoint={trained}", f"images={root / 'val'}", f"out={out}", "batch_size=2"]
    assert main(["predict", *words]) == 130
    assert kept == [5 if ending == ".csv" else 4] and out.read_text().count("\n") == kept[0]
    assert f"interrupted after 4 of 18 images; their results are in {out}" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "message"), [
    (["out={tmp}/x.txt"], "x.txt' has an unknown ending; accepted: .csv, .jsonl, .json"),
    (["sheet={tmp}/x.pdf"], "x.pdf' has an unknown ending; accepted: .png"),
    (["out={tmp}/here.csv"], "here.csv' exists already; name another file, or set overwrite=true"),
    (["out={tmp}/folder.csv"], "folder.csv' is a folder"),
    (["out={tmp}/here.csv/x.csv"], "cannot be written"),
    (["images={tmp}/nowhere"], "nowhere: no such file or folder"),
    (["images={tmp}/*.bmp"], "*.bmp: no file or folder matches this pattern"),
    (["images={tmp}/folder.csv"], "folder.csv: holds no images; accepted: .jpg"),
    (["on_error=ignore"], "on_error='ignore' is not accepted; accepted: raise, skip"),
])  # fmt: skip
def test_a_mistake_is_one_line_and_nothing_is_lost(
    trained: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (tmp_path / "here.csv").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    words = [f"images={root / 'val'}", *(word.format(tmp=tmp_path) for word in words)]
    assert main(["predict", f"checkpoint={trained}", *words]) == 2
    assert message in capsys.readouterr().err and (tmp_path / "here.csv").read_text() == "mine"


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_a_disk_that_takes_nothing_leaves_no_empty_file_in_the_way(name: str, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(predictions, "write_all", full)
    with pytest.raises(FileError, match="No space left"):
        with predictions.open_predictions(tmp_path / name, top=1) as write:
            write([predictions.Prediction(Path("a.png"), (("cat", 0.9),))])
    assert not (tmp_path / name).exists()


def test_overwrite_replaces_results(trained: Path, root: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("old " * 10_000)
    words = [f"images={root / 'val'}", f"out={tmp_path / 'x.csv'}", "overwrite=true"]
    assert main(["predict", f"checkpoint={trained}", *words]) == 0
    assert len(rows_of(tmp_path / "x.csv")) == 18 and "old" not in (tmp_path / "x.csv").read_text()


def test_a_sheet_shows_the_images_upright_with_their_answers(trained: Path, odd: Path, root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("RGB", (40, 64), "blue")  # stored lying: the upper half becomes the right one
    picture.paste("red", (0, 0, 40, 32))
    picture.save(odd / "a.jpg", exif=exif, quality=100, subsampling=0)
    assert main(["predict", f"checkpoint={trained}", f"images={odd}", f"sheet={odd / 'sheet.png'}"]) == 0
    with Image.open(odd / "sheet.png") as sheet:
        assert sheet.size == (3 * 136 + 8, 3 * 168 + 8)
        place = sorted([odd / name for name in (*ODD, "a.jpg", "sub/broken.png")]).index(odd / "a.jpg")
        left, top = 8 + place % 3 * 136, 8 + place // 3 * 168
        row = [sheet.getpixel((left + x, top + 64)) for x in (32, 96)]
    assert np.abs(np.array(row) - [[0, 0, 255], [255, 0, 0]]).max() <= 8
    assert read_image(odd / "a.jpg", 3).size == (64, 40)


def test_a_sheet_holds_at_most_a_hundred_images_evenly_spaced() -> None:
    assert spaced(5) == [0, 1, 2, 3, 4] and spaced(1000)[:3] == [0, 10, 20] and len(spaced(1050)) == 100
    assert len(set(spaced(101))) == 100


def test_what_is_left_out_names_the_folder_that_was_given(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copy(root / "val" / "down" / "0.png", tmp_path)
    (tmp_path / "a.txt").touch()
    assert find_files(tmp_path) == [tmp_path / "0.png"]
    assert caplog.messages == [f"{tmp_path}: left out, since Pillow reads no such files here: 1 .txt"]


def test_files_folders_patterns_and_lists_name_each_image_once(root: Path) -> None:
    down = root / "val" / "down"
    assert find_files(down / "0.png") == [down / "0.png"]
    assert find_files(str(root / "val" / "*" / "[01].*")) == [root / "val" / c / n for c in CLASSES for n in ("0.png", "1.jpg")]
    assert len(find_files(str(root / "**" / "*.png"))) == 22
    assert find_files([down / "0.png", down]) == [down / "0.png", *sorted(down.iterdir())[1:]]
    with pytest.raises(DataError, match="no file or folder matches"):
        find_files(str(down / "*.gif"))


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "val" / "down" / "0.png", tmp_path / "a[1].png")
    assert find_files(tmp_path / "a[1].png") == [tmp_path / "a[1].png"]


def test_evaluating_a_set_that_lacks_a_class_gives_right_labels(trained: Path, root: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(root / "val" / "down", tmp_path / "other" / split / "down")
    words = ["data=imagefolder", f"data.root={tmp_path / 'other'}", "data.img_size=16", f"run_dir={tmp_path / 'e'}"]
    assert main(["evaluate", f"checkpoint={trained}", *words]) == 0
    assert main(["predict", f"checkpoint={trained}", f"images={root / 'val' / 'down'}", f"out={tmp_path / 'x.csv'}"]) == 0
    right = np.mean([row["class"] == "down" for row in rows_of(tmp_path / "x.csv")])
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["test_accuracy"] == pytest.approx(right)
