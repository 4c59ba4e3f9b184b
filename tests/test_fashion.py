"""A first user's command on real images: Fashion-MNIST as class folders, nothing set but data and directions."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmsearch.cli import main
from lmsearch.report.baselines import logistic_regression

DATA = Path("/usr/share/datasets/fashion-mnist")
NAMES = ("top", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
CROSS = '[["h", "h_flip", "v", "v_flip"], ["h", "h_flip", "v", "v_flip"], ["h", "h_flip", "v", "v_flip"]]'
WANTED = 0.845  # 12 epochs without augmentation, measured outside this program


def read(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first images (N, 28, 28) and labels (N,) of a set."""
    pixels = gzip.decompress((DATA / f"{name}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((DATA / f"{name}-labels-idx1-ubyte.gz").read_bytes())[8:]
    return np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28)[:count], np.frombuffer(labels, np.uint8)[:count].astype(int)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs: apt-get install dataset-fashion-mnist")
@pytest.mark.parametrize("held", ["test", "val"])
def test_a_bare_retraining_on_small_images_beats_logistic_regression_on_more_of_them(held: str, tmp_path: Path) -> None:
    for split, name, count in (("train", "train", 2400), (held, "t10k", 600)):
        for number, (image, label) in enumerate(zip(*read(name, count), strict=True)):
            folder = tmp_path / "images" / split / NAMES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:05d}.png")
    (tmp_path / "cross.json").write_text(CROSS)
    words = ["retrain", "data=imagefolder", f"data.root={tmp_path / 'images'}", f"genotype={tmp_path / 'cross.json'}"]
    assert main([*words, f"run_dir={tmp_path / 'run'}"]) == 0
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["test_accuracy"] >= WANTED and found["test_accuracy"] > max(found["baselines"].values())

    def flat(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        images, labels = read(name, count)
        return images.reshape(count, -1).astype(np.float32) / 255, labels

    images, labels = flat("t10k", 600)
    assert found["test_accuracy"] > (logistic_regression(*flat("train", 6000), images) == labels).mean()
