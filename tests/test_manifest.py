"""A run goes on with the samples that it was begun on, and what a search held out stays held out."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dense_folders import rows, write_pairs, write_shapes
from idx_files import write_idx
from interruptions import signalled
from PIL import Image
from test_distributed import Meeting

from lmsearch.cli import main
from lmsearch.data import Source, build_source
from lmsearch.data.manifest import Manifest
from lmsearch.engine.checkpoint import load_checkpoint
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import ConfigError
from lmsearch.interrupts import SAVED
from lmsearch.tasks.parts.samples import FILE, check_held_out, note_samples, searched_on

SEARCH = [
    "search=darts", "epochs=1", "batch_size=4", "keep=1", "search.recheck=0", "search.health_every=0", "optim.warmup_epochs=0",
    "model.embed_dim=8", "model.d_state=2", "model.depth=1", "model.patch_size=4",
]  # fmt: skip


def write_images(folder: Path) -> Path:
    """Write two classes of ten training and four validation images."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 4)):
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 255, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def write_masks(folder: Path) -> Path:
    """Write four training images with masks, and one that validates."""
    return write_pairs(write_pairs(folder, [rows(0, 1)] * 4), [rows(0, 1)], split="val")


def other_box(folder: Path) -> None:
    """Change the box of an object."""
    path = next(folder.rglob("*train*.json"))
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][0] += 1
    path.write_text(json.dumps(content))


def images_of(folder: Path) -> Source:
    """Return the source of class folders."""
    return build_source("imagefolder", root=str(folder), img_size=8, in_chans=1)


def dense_of(folder: Path) -> Source:
    """Return the source of a dense folder."""
    return build_source("dense", root=str(folder), img_size=8)


Write, Read, Change = Callable[[Path], Path], Callable[[Path], Source], Callable[[Path], object]
CHANGES: dict[str, tuple[Write, Read, Change, str]] = {
    "file gone": (
        write_images, images_of, lambda root: (root / "train/b/3.png").unlink(),
        "20 then, 19 now, first difference: class 'b' has 9 where there were 10",
    ),
    "file renamed": (
        write_images, images_of, lambda root: (root / "train/a/3.png").rename(root / "train/a/x.png"),
        "20 then, 20 now, first difference: class 'a' has others",
    ),
    "file moved to another class": (
        write_images, images_of, lambda root: (root / "train/b/3.png").rename(root / "train/a/x.png"),
        "20 then, 20 now, first difference: class 'a' has 11 where there were 10",
    ),
    "mask gone": (
        write_masks, dense_of, lambda root: [(root / kind / "train/2.png").unlink() for kind in ("images", "annotations")],
        "4 then, 3 now, first difference: the files or labels are others",
    ),
    "box moved": (
        lambda root: write_shapes(root, "coco"), dense_of, other_box,
        "8 then, 8 now, first difference: the files or labels are others",
    ),
    "other pixels": (
        lambda root: write_idx(root, side=8, packed=False), lambda root: build_source("idx", root=root),
        lambda root: write_idx(root, side=8, packed=False, train=84), "class '0' has",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_a_manifest_tells_samples_from_others_wherever_they_lie(kind: str, tmp_path: Path) -> None:
    write, read, change, told = CHANGES[kind]
    root = write(tmp_path / "one")
    before, moved = read(root), read(Path(shutil.copytree(root, tmp_path / "moved" / "two")))
    known = Manifest.of(before.train, before.info)
    assert known == Manifest.of(moved.train, moved.info) and known.number == before.train.epoch_size(1)
    assert Manifest.from_dict(json.loads(json.dumps(known.to_dict())), source="x", error=ConfigError) == known
    change(root)
    after = read(root)
    assert told in known.change_to(Manifest.of(after.train, after.info))


def test_what_follows_from_the_configuration_has_a_manifest_that_stays() -> None:
    for name, options in (("digits", {}), ("planted", {"grid": 4}), ("planted", {"grid": 4, "num_train": 40})):
        one, other = (build_source(name, **options) for _ in range(2))
        assert Manifest.of(one.train, one.info).change_to(Manifest.of(other.train, other.info)) == ""


def test_what_is_no_manifest_is_one_line(tmp_path: Path) -> None:
    source = build_source("digits")
    note_samples(RunDir(tmp_path), source, begun=True)  # of version 0.1.0, which left no such file
    for content in ("[1]", '{"training": {"a": [1]}}', '{"training": {"a": [true, "x"]}}', "{"):
        (tmp_path / FILE).write_text(content)
        with pytest.raises(ConfigError, match=FILE):
            note_samples(RunDir(tmp_path), source, begun=True)
    note_samples(RunDir(tmp_path), source, begun=False)
    note_samples(RunDir(tmp_path), source, begun=True)


def test_the_training_samples_of_a_search_are_gone_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, seen = build_source("digits"), []
    of = Manifest.of
    monkeypatch.setattr(Manifest, "of", lambda dataset, info: seen.append(dataset) or of(dataset, info))
    note_samples(RunDir(tmp_path), source, begun=False)
    there = pickle.loads(pickle.dumps(source))  # as a worker gets it, which searches with another seed
    for one in (source, there):
        assert searched_on(one) == {"samples": json.loads((tmp_path / FILE).read_text())["training"]}
    assert [seen.count(part) for part in (source.train, source.val)] == [1, 1] and len(seen) == 2
    assert replace(source, train=source.val).remembered == {}


def test_processes_that_see_other_samples_are_one_line(tmp_path: Path) -> None:
    roots = [write_images(tmp_path / name) for name in ("one", "two")]
    (roots[1] / "train/b/3.png").unlink()

    def note(world: object) -> None:
        note_samples(RunDir(tmp_path / "run", world), images_of(roots[world.rank]), begun=False)

    for error in Meeting(2).run(note):
        assert str(error).startswith("the list of training and validation samples of process ")
    assert not (tmp_path / "run").exists()


def test_a_search_goes_on_and_is_derived_again_only_with_the_samples_that_it_was_begun_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = write_images(tmp_path / "images"), tmp_path / "run"
    words = ["search", *SEARCH, "data=imagefolder", f"data.root={root}", "data.img_size=8", "data.in_chans=1", f"run_dir={run}"]
    derive = ["derive", f"checkpoint={run}", "health=true", f"run_dir={tmp_path / 'derived'}"]
    with signalled(signal.SIGTERM, after=2):
        assert main(words) == SAVED
    for part, changed in (("training", "train/a/3.png"), ("validation", "val/b/1.png")):
        (root / changed).rename(tmp_path / "aside.png")
        capsys.readouterr()
        assert main(words) == 2
        assert f"the {part} samples are not those that the run was begun on" in capsys.readouterr().err
        if part == "training":
            assert main(derive) == 2
            assert "20 then, 19 now, first difference: class 'a' has 9 where there were 10" in capsys.readouterr().err
            assert not (tmp_path / "derived").exists()
        (tmp_path / "aside.png").rename(root / changed)
    check_held_out(load_checkpoint(run), images_of(root), where="run")
    (root / "train/a/3.png").unlink()
    check_held_out({"epoch": 1}, images_of(root), where="a state of version 0.1.0")


def test_trials_in_a_database_go_on_only_with_the_samples_that_they_were_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = write_images(tmp_path / "images"), tmp_path / "run"
    words = ["search", "search=random", *(word for word in SEARCH if not word.startswith("search"))]
    words += ["search.evaluate=standalone", "search.trials=1", f"search.storage=sqlite:///{tmp_path}/trials.db"]
    words += ["data=imagefolder", f"data.root={root}", "data.img_size=8", "data.in_chans=1", f"run_dir={run}"]
    with signalled(signal.SIGTERM, after=2):
        assert main(words) == SAVED
    shutil.rmtree(run / "parts")  # between two trials nothing of them lies in the folder
    (root / "train/a/3.png").unlink()
    capsys.readouterr()
    assert main(words) == 2
    assert "the training samples are not those that the run was begun on" in capsys.readouterr().err
