"""The accuracy that one counts in the rows of `predict` is what `evaluate` reports, for every kind of run and of weights."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmsearch.cli import main

TRAINED = ["epochs=2", "batch_size=8", "optim.warmup_epochs=0", "optim.lr=0.01", "optim.mixup=0", "optim.cutmix=0"]
VIM = ["model.embed_dim=8", "model.depth=1", "model.patch_size=4", "model.stem=patch"]
VMAMBA = ["model=local_vmamba_nano", "model.dims=[8,16]", "model.depths=[1,1]", "model.patch_size=2"]
KINDS = {
    "non-square": [*VIM, "data.img_size=[8,12]"],
    "grey, averaged": [*VIM, "data.img_size=12", "data.in_chans=1", "optim.ema_decay=0.6"],
    "hierarchical": [*VMAMBA, "data.img_size=12"],
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three classes of stripes, dots and ramps in colour and of several sizes, and one broken file."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    sizes = [(10, 15), (16, 12), (12, 12), (9, 30)]
    for split, count in (("train", 8), ("val", 12)):
        for label, name in enumerate(("dots", "ramp", "stripes")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                height, width = sizes[number % len(sizes)]
                rows, columns = np.mgrid[:height, :width]
                pattern = (rows % 3 * (columns % 3) * 20, columns * 100 // width, rows % 4 * 30)[label]
                pixels = pattern[..., None] + rng.normal(60, 40, (height, width, 3))
                Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(root / split / name / f"{number}.png")
    (root / "val" / "dots" / "broken.png").write_bytes(b"not an image")
    return root


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a network of each kind."""
    folder = tmp_path_factory.mktemp("run")
    layers = 2 if request.param == "hierarchical" else 1
    (folder / "mine.json").write_text(json.dumps([["h", "v_flip"]] * layers))
    words = [*TRAINED, *KINDS[request.param], "data=imagefolder", f"data.root={images}", "data.on_error=skip"]
    assert main(["retrain", *words, f"genotype={folder / 'mine.json'}", f"run_dir={folder / 'run'}"]) == 0
    return folder / "run"


def evaluated(weights: Path, images: Path, folder: Path) -> dict:
    words = [f"data.root={images}", "data.on_error=skip", "batch_size=5", f"run_dir={folder}"]
    assert main(["evaluate", f"checkpoint={weights}", *words]) == 0
    return json.loads((folder / "metrics.json").read_text())


def counted(weights: Path, images: Path, folder: Path) -> tuple[float, int]:
    """Return accuracy and number of images, from the rows that predict writes for the val folder."""
    out = folder / "answers.csv"
    assert main(["predict", f"checkpoint={weights}", f"images={images / 'val'}", f"out={out}", "overwrite=true"]) == 0
    with out.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["error"]]
    return sum(row["class"] == Path(row["path"]).parent.name for row in rows) / len(rows), len(rows)


def agree(weights: Path, images: Path, folder: Path) -> float:
    """Check that what is counted is what is evaluated, and return it."""
    metrics, (accuracy, number) = evaluated(weights, images, folder), counted(weights, images, folder)
    assert metrics["test_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert metrics["num_test"] == number == 36, "the broken file counts nowhere"
    return accuracy


def test_what_is_counted_is_what_is_evaluated_for_all_weights_of_a_run(run: Path, images: Path, tmp_path: Path) -> None:
    final = json.loads((run / "metrics.json").read_text())["test_accuracy"]
    files = [run, *run.glob("*.safetensors"), run / "checkpoint.pt"]
    found = {file.name: agree(file, images, tmp_path) for file in files}
    for name in ("run", "model.safetensors", "checkpoint.pt"):
        assert found[name] == pytest.approx(final, abs=1e-6)


def test_what_is_counted_is_what_is_evaluated_for_the_same_net_elsewhere(run: Path, images: Path, tmp_path: Path) -> None:
    final = json.loads((run / "metrics.json").read_text())["test_accuracy"]
    moved = shutil.copytree(images, tmp_path / "moved")
    assert agree(run, moved, tmp_path) == pytest.approx(final, abs=1e-6)
    assert main(["convert", "to=official", f"source={run}", f"out={tmp_path / 'x.pth'}"]) == 0
    assert main(["convert", f"source={tmp_path / 'x.pth'}", f"genotype={run}", f"out={tmp_path / 'back'}"]) == 0
    assert agree(tmp_path / "back", images, tmp_path) == pytest.approx(final, abs=1e-6)
    tuned = ["retrain", *TRAINED, f"init_from={run}", "data.img_size=[12,20]", "model.drop_path_rate=0.1"]
    assert main([*tuned, f"run_dir={tmp_path / 'tuned'}"]) == 0
    assert evaluated(tmp_path / "tuned", images, tmp_path)["num_test"] == 36
    agree(tmp_path / "tuned", images, tmp_path)
