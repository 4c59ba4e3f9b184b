"""Whatever masks, COCO and YOLO files hold, reading them gives samples or one clear line."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_folders import coco, rows, write_coco, write_pairs, write_picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_data_coco import write_yolo

from lmsearch.data import build_source
from lmsearch.errors import DataError

pytestmark = pytest.mark.slow
ONES = settings(
    max_examples=int(os.environ.get("LMSEARCH_FUZZ", "150")), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NUMBERS = st.one_of(
    st.integers(-3, 12),
    st.floats(-3, 12, allow_nan=False),
    st.sampled_from([10**30, -(10**30), 1e308, 2**53, True, None, "7", [], {}]),
)
VALUES = st.recursive(
    st.one_of(NUMBERS, st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=8), st.dictionaries(st.sampled_from(["size", "counts", "id"]), inner, max_size=2)
    ),
    max_leaves=8,
)
LETTERS = st.characters(min_codepoint=48, max_codepoint=120)
FIELDS = (
    ("annotations", "bbox"), ("annotations", "segmentation"), ("annotations", "category_id"), ("annotations", "image_id"),
    ("annotations", "iscrowd"), ("annotations", "id"), ("images", "id"), ("images", "file_name"), ("images", "height"),
    ("images", "width"), ("categories", "id"), ("categories", "name"),
)  # fmt: skip


def read(folder: Path) -> None:
    """Read a folder with both kinds of labels, all samples; DataError in one line is the only error that may come."""
    for target in ("segmentation", "instances"):
        for on_error in ("raise", "skip"):
            try:
                source = build_source(
                    "dense", root=str(folder), target=target, img_size=8, in_chans=1, on_error=on_error, val_fraction=0.5
                )
                for part in (source.train, source.val):
                    indices = np.arange(len(part.part))
                    part.train_batch(indices, seed=0, epoch=0)
                    part.eval_batch(indices)
            except DataError as error:
                assert "\n" not in str(error)


@ONES
@given(field=st.sampled_from(FIELDS), value=VALUES, drop=st.booleans())
def test_any_value_in_a_coco_file(
    tmp_path_factory: pytest.TempPathFactory, field: tuple[str, str], value: Any, drop: bool
) -> None:
    folder, (part, name), content = tmp_path_factory.mktemp("coco"), field, copy.deepcopy(coco())
    write_coco(folder, content)
    content[part][0].pop(name) if drop else content[part][0].update({name: value})
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    read(folder)


@ONES
@given(outline=st.one_of(
    st.lists(st.lists(st.floats(-20, 40, allow_nan=False, width=32), min_size=2, max_size=10), min_size=1, max_size=3),
    st.fixed_dictionaries({"size": st.just([6, 8]), "counts": st.text(LETTERS, max_size=8)}),
    st.fixed_dictionaries({"size": st.just([6, 8]), "counts": st.lists(st.integers(-2, 50), max_size=5)}),
))  # fmt: skip
def test_any_outline(tmp_path_factory: pytest.TempPathFactory, outline: Any) -> None:
    content = coco()
    content["annotations"][0]["segmentation"] = outline
    read(write_coco(tmp_path_factory.mktemp("outline"), content))


@ONES
@given(cut=st.integers(0, 400), junk=st.binary(max_size=3))
def test_any_cut_of_a_coco_file(tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes) -> None:
    folder = write_coco(tmp_path_factory.mktemp("cut"))
    path = folder / "annotations" / "instances_train.json"
    path.write_bytes(path.read_bytes()[:cut] + junk)
    read(folder)


@ONES
@given(lines=st.lists(st.lists(st.one_of(NUMBERS.map(str), st.text(max_size=3)), max_size=9).map(" ".join), max_size=3))
def test_any_label_file_of_yolo(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    text = "\n".join(lines).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    read(write_yolo(tmp_path_factory.mktemp("yolo"), text))


@ONES
@given(values=st.dictionaries(st.sampled_from(["path", "train", "val", "test", "names", "nc", "kpt_shape"]), VALUES))
def test_any_description_of_yolo(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    folder = write_yolo(tmp_path_factory.mktemp("description"))
    (folder / "data.yaml").write_text(json.dumps({"train": "train/images", "names": ["a", "b"]} | values))
    read(folder)


def coloured(values: np.ndarray) -> np.ndarray:
    """Return levels (H, W) as colours (H, W, 3)."""
    return np.stack([values, values // 2, values // 3], axis=2)


@ONES
@given(
    held=st.lists(st.integers(0, 65535), min_size=1, max_size=6), wide=st.booleans(), colour=st.booleans(),
    cut=st.integers(0, 200), listing=st.one_of(st.none(), st.text(max_size=20)),
)  # fmt: skip
def test_any_mask(
    tmp_path_factory: pytest.TempPathFactory, held: list[int], wide: bool, colour: bool, cut: int, listing: str | None
) -> None:
    folder = write_pairs(tmp_path_factory.mktemp("masks"), [rows(0, 1)] * 3)
    values = np.array(held).astype(np.uint16 if wide and not colour else np.uint8)[np.arange(48).reshape(6, 8) % len(held)]
    path = write_picture(folder / "annotations" / "train" / "0.png", coloured(values) if colour else values)
    path.write_bytes(path.read_bytes()[: cut + 20] if cut < 100 else path.read_bytes())
    if listing is not None:
        (folder / "classes.txt").write_bytes(listing.encode("utf-8", "replace"))
    read(folder)
