"""A run's data in another place: what of the run counts there, and which of its images trained the network."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmsearch.cli import main
from lmsearch.config import settings_of
from lmsearch.data import DataInfo
from lmsearch.data.dense.folder import Wanted, read_dense, read_dense_for_evaluation
from lmsearch.data.layout import Folder, read_folder
from lmsearch.engine.checkpoint import ModelSpec, save_model
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import DataError
from lmsearch.settings.tasks import Evaluate
from lmsearch.tasks.evaluate import measured_on
from lmsearch.tasks.parts.known import configure, of_weights
from lmsearch.tasks.parts.trained import seen_in_training

INFO = DataInfo("imagefolder", 2, ("cat", "dog"), (8, 8), 1, (0.5,), (0.5,))


def write_classes(root: Path) -> Path:
    """Write class folders with five files each, which are listed and not read."""
    for name in INFO.class_names:
        (root / name).mkdir(parents=True)
        for number in range(5):
            (root / name / f"{number}.png").touch()
    return root


@pytest.mark.parametrize("task", ["evaluate checkpoint", "retrain genotype"])
def test_what_values_of_masks_mean_is_taken_for_other_folders(task: str, tmp_path: Path) -> None:
    run = "data: {name: dense, root: a, ignore_index: 7, reduce_zero_label: true, on_error: skip}\nmodel: {name: local_vim_nano}"
    (tmp_path / "config.yaml").write_text(run)
    (tmp_path / "genotype.json").write_text("[]")
    task, key = task.split()

    def taken(*words: str) -> tuple:
        data = configure(task, [f"{key}={tmp_path}", "data.root=b", *words])[0].data
        return data.ignore_index, data.reduce_zero_label, data.on_error

    assert taken() == (7, True, "raise"), "what was set for broken files of the run is not"
    assert taken("data=dense", "data.ignore_index=-1") == (-1, True, "raise"), "the command line wins"


def test_evaluate_measures_no_training_images_of_its_folder_however_written_or_of_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = read_folder(write_classes(Path("mine")), val_fraction=0.4)
    text = f"{{name: imagefolder, root: mine, val_fraction: 0.4, val_digest: {folder.val_digest}}}"
    Path("run").mkdir()
    Path("run/config.yaml").write_text(f"data: {text}\nmodel: {{name: local_vim_nano}}")
    source = {"name": "imagefolder", "root": "mine", "val_fraction": 0.4, "val_digest": folder.val_digest}
    spec = ModelSpec("local_vim_nano", (("h",),), data={"source": source})

    def measured(root: str) -> tuple[dict, list[str]]:
        cfg, lines = configure("evaluate", ["checkpoint=run", f"data.root={root}"])
        return measured_on(settings_of(Evaluate, cfg).data, spec, INFO), lines

    options, lines = measured(f"{tmp_path}/./mine/")
    assert options | source == options | {"root": "mine"} and not any("given" in line for line in lines)
    there = measured(shutil.copytree("mine", "moved/mine"))[0]["root"]
    assert isinstance(there, Folder) and there.test is there.val
    names = [[path.name for path in part.classes["cat"]] for part in (there.test, folder.val)]
    assert names[0] == names[1] and len(names[0]) == 2
    there.test.classes["cat"][0].unlink()
    assert measured("moved/mine")[0]["root"].test.num_images == 9, "other images are all measured"


def test_of_a_copy_with_masks_those_are_measured_that_were_set_aside(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for number in range(5):
            Image.fromarray(np.eye(2, dtype="uint8")).save(tmp_path / part / f"{number}.png")
    folder = read_dense(tmp_path, format=None, wanted=Wanted(), val_fraction=0.4)
    recorded = {"val_fraction": 0.4, "val_digest": folder.val_digest}
    there = read_dense_for_evaluation(tmp_path, format=None, wanted=Wanted(), **recorded)
    assert there.test.names() == folder.val.names() and len(there.test) == 2
    for other in ({}, recorded | {"val_digest": "12ab"}, recorded | {"val_fraction": 0.2}):
        assert len(read_dense_for_evaluation(tmp_path, format=None, wanted=Wanted(), **other).test) == 5


def test_images_called_alike_in_several_folders_are_told_apart_by_these(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        for number in range(8):
            (tmp_path / part / f"case{number}").mkdir(parents=True)
            Image.fromarray(np.eye(2, dtype="uint8")).save(tmp_path / part / f"case{number}" / "image.png")
    folder = read_dense(tmp_path, format=None, wanted=Wanted(), val_fraction=0.4)
    aside = [folder.val.path(place).parent for place in range(3)]
    assert {path.name for path in aside} != {"case0", "case1", "case2"}, "drawn, not the first"
    recorded = {"val_fraction": 0.4, "val_digest": folder.val_digest}
    assert len(read_dense_for_evaluation(tmp_path, format=None, wanted=Wanted(), **recorded).test) == 3
    for part in ("images", "masks"):
        shutil.rmtree(tmp_path / part / aside[0].name)
    with pytest.raises(DataError, match="validat"):
        read_dense(tmp_path, format=None, wanted=Wanted(), **recorded)
    assert len(read_dense_for_evaluation(tmp_path, format=None, wanted=Wanted(), **recorded).test) == 7


def test_a_copy_in_the_format_of_mnist_sets_the_same_images_aside(tmp_path: Path) -> None:
    data = "{name: idx, root: a, val_fraction: 0.3, split_seed: 5, val_digest: x, num_train: 9}"
    (tmp_path / "config.yaml").write_text(f"data: {data}\nmodel: {{name: local_vim_nano}}")
    known = of_weights(str(tmp_path))
    assert known is not None
    left, _ = known.under({}, {"data.root": "b"})
    assert left.values == {"data.val_fraction": 0.3, "data.split_seed": 5, "model.name": "local_vim_nano"}


def test_who_goes_on_from_weights_is_told_where_images_validate_that_trained_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class EnoughError(Exception):
        """The training or measuring would begin."""

    def begun(*args: object, **options: object) -> None:
        raise EnoughError

    monkeypatch.setattr("lmsearch.tasks.retrain.claim_run_dir", begun)
    monkeypatch.setattr("lmsearch.tasks.evaluate.validate_and_test", begun)
    folder = read_folder(write_classes(tmp_path / "mine"), val_fraction=0.4)
    source = {"name": "imagefolder", "root": str(folder.root), "val_fraction": 0.4, "val_digest": folder.val_digest}
    sizes = {"img_size": [8, 8], "in_chans": 1, "num_classes": 2, "depth": 1, "embed_dim": 8, "patch_size": 4}
    spec = ModelSpec("local_vim_nano", (("h",),), "sum", sizes, {"info": asdict(INFO), "source": source})
    (tmp_path / "run").mkdir()
    save_model(RunDir(tmp_path / "run"), spec, spec.build(backend="reference").state_dict())
    (tmp_path / "row.json").write_text('[["h"]]')
    told = f"run was trained on images of {folder.root} that validate now"
    for words in (
        ["retrain", f"genotype={tmp_path / 'row.json'}", f"init_from={tmp_path / 'run'}"],
        ["evaluate", f"checkpoint={tmp_path / 'run'}"],
    ):
        for share, expected in (("0.6", True), ("0.2", False)):
            with pytest.raises(EnoughError):
                main([*words, f"data.val_fraction={share}"])
            assert (told in caplog.text) == expected
            caplog.clear()
    smaller = read_folder(folder.root, val_fraction=0.2)
    assert set(smaller.val.classes["cat"]) < set(folder.val.classes["cat"]), "no image of a smaller share trained"


def test_another_draw_or_another_folder_is_known_to_validate_on_others() -> None:
    own = {"root": "a", "val_fraction": 0.3, "split_seed": 0, "val_digest": "x"}
    spec = ModelSpec("local_vim_nano", (("h",),), data={"source": own})
    for data, expected in (
        ({"split_seed": 1, "val_digest": "y"}, True),
        ({"val_fraction": 0.1, "val_digest": "y"}, True),
        ({"root": "./a/"}, False),
        ({"root": "b", "val_digest": "y"}, False),
    ):
        assert (seen_in_training(own | data, spec) is not None) == expected
