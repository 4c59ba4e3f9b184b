"""Searches on masks: a direction that the classes of pixels depend on is found with the plain head."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmsearch.cli import main
from lmsearch.data.sources.planted_tasks import Task
from lmsearch.scan.directions import index_table

SIDE, SPACE = 8, "localmamba8_w4"
DIRECTIONS = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip")
RECALL = Task("latest_key", SIDE * SIDE, decay=0.9, lag=1, key_rate=0.25)
VOID = 255


def write_planted(folder: Path, direction: str, *, images: int) -> Path:
    """Write images of one pixel per token, and masks of which value came after the latest key along a direction.

    Red is a token's value, green says that it is a key. Class 1: the value after the latest key was high. Tokens before the
    first key are void. The sequences do not depend on the direction, so all are equally hard. A sum of the tokens before would
    not tell windows from lines: the head convolves three rows of scans along `h` to what a scan along `w2` holds.
    """
    order = index_table((direction,), (SIDE, SIDE))[0]
    for split, count in (("train", images), ("val", 128)):
        sequences, recalled = RECALL.draw(np.arange(count), ("masks", split))
        pixels = np.zeros((count, SIDE * SIDE, 3), dtype=np.uint8)
        pixels[:, order, 0] = np.clip(127.5 + 60 * sequences[:, 0], 0, 255)
        pixels[:, order, 1] = 255 * sequences[:, 1]
        classes = np.full(recalled.shape, VOID, dtype=np.uint8)
        classes[:, order] = np.where(recalled == 0, VOID, recalled > 0)
        for kind, values in (("images", pixels), ("annotations", classes)):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
            for number, one in enumerate(values):
                Image.fromarray(one.reshape(SIDE, SIDE, *one.shape[1:])).save(folder / kind / split / f"{number}.png")
    return folder


def recovered(direction: str, folder: Path, *words: str, images: int) -> tuple[list[str], str]:
    """Search on masks that depend on a direction; return what is kept, and the status."""
    data = write_planted(folder / "data", direction, images=images)
    plain = ["data.scale=[1,1]", "data.ratio=[1,1]", "data.flip_prob=0", "data.colour=0"]
    net = [
        "model=local_vim", "model.patch_size=1", "model.embed_dim=16", "model.depth=1", "model.d_state=8", "model.init=fan_in",
        "model.drop_path_rate=0", "model.attention=none", "model.window_padding=none", "model.use_rope=false",
        "model.rope_residual=false",
    ]  # fmt: skip
    recipe = ["batch_size=16", "optim.lr=0.008", "optim.warmup_epochs=1", f"search_space={SPACE}", "keep=1", *words]
    assert (
        main(["search", "data=dense", f"data.root={data}", *plain, *net, *recipe, f"run_dir={folder / 'run'}", "device=cpu"]) == 0
    )
    genotype = json.loads((folder / "run" / "genotype.json").read_text())
    return genotype["layers"][0]["directions"], genotype["health"]["status"]


def test_a_direction_planted_in_masks_is_recovered_with_the_plain_head(tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text("name: few\ncandidates: [h, v, v_flip]\nkeep: 1\n")
    few = [f"search_space={tmp_path / 'few.yaml'}", "search.recheck=0", "search.health_every=0"]
    kept, status = recovered("v_flip", tmp_path, "epochs=8", *few, images=128)
    assert kept == ["v_flip"] and status == "unconfirmed"
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"holdout_miou", "val_miou"} <= metrics.keys()


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_direction_that_is_planted_in_masks_is_recovered(direction: str, tmp_path: Path) -> None:
    kept, status = recovered(direction, tmp_path, "epochs=10", "search.recheck=1", images=256)
    assert kept == [direction] and status == "ok"
