"""lmsearch shapes: a data set on the spot in three layouts, the same for the same words, into new folders only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lmsearch.cli import main
from lmsearch.data import build_source
from lmsearch.data.dense.shapes import CLASSES, make_scene
from lmsearch.data.dense.writing import FORMS

SMALL = ["images=4", "img_size=24"]


@pytest.mark.parametrize("format", FORMS)
def test_a_written_data_set_is_recognised(tmp_path: Path, format: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made, a=b"
    assert main(["shapes", f"out={out}", f"format={format}", *SMALL]) == 0
    assert f"files in {out}; train on them with data=dense data.root={out}" in capsys.readouterr().out
    source = build_source("dense", root=str(out))
    assert source.info.class_names == ("background", *CLASSES) and source.info.img_size == (24, 24)
    assert [len(part.part) for part in (source.train, source.val, source.test)] == [4, 1, 1]


def test_the_folder_of_the_preset_is_told_by_the_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["shapes", "out=shapes", *SMALL]) == 0
    assert "files in shapes; train on them with data=shapes\n" in capsys.readouterr().out


def test_the_same_words_give_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert main(["shapes", f"out={tmp_path / name}", f"seed={seed}", "format=coco", *SMALL]) == 0
    files = {name: {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.*")} for name in "abc"}
    assert files["a"] == files["b"] != files["c"]


def test_coco_files_hold_polygons_and_run_lengths_and_gaps(tmp_path: Path) -> None:
    assert main(["shapes", f"out={tmp_path}", "format=coco", "images=30", "img_size=[24,32]"]) == 0
    content = json.loads((tmp_path / "annotations" / "instances_train.json").read_text())
    outlines = [entry["segmentation"] for entry in content["annotations"]]
    kinds = {"polygon" if isinstance(outline, list) else type(outline["counts"]).__name__ for outline in outlines}
    assert kinds == {"polygon", "str", "list"} and [entry["id"] for entry in content["categories"]] == [3, 4, 8, 15, 40]
    assert {entry["height"] for entry in content["images"]} == {24} and len(content["images"]) == 30


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    for out in (tmp_path, tmp_path / "mine.txt"):
        assert main(["shapes", f"out={out}", *SMALL]) == 2
        assert f"out={str(out)!r} is there already; name a new or an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("img_size=8", "img_size=8 is too small for the shapes"),
        ("format=voc", "format='voc' is not accepted"),
        ("images=0", "out of range"),
    ],
)
def test_wrong_words_write_nothing(tmp_path: Path, word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shapes", f"out={tmp_path / 'new'}", word]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and not (tmp_path / "new").exists()


def test_objects_hide_what_lies_behind_them_and_all_kinds_appear() -> None:
    scenes = [make_scene(number, split="train", size=(32, 48)) for number in range(40)]
    assert all((scene.masks.sum(0) <= 1).all() for scene in scenes)
    assert set(np.concatenate([scene.classes for scene in scenes])) == set(range(len(CLASSES)))
    assert [number for number, scene in enumerate(scenes) if not len(scene.classes)][:2] == [4, 9]
    assert all(scene.image.shape == (32, 48, 3) and scene.class_map.max() <= len(CLASSES) for scene in scenes)
