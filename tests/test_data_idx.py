"""Images in MNIST's format: what is read, how it is split, and what is refused."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from idx_files import idx_bytes, write_idx

from lmsearch.cli import main
from lmsearch.data import build_source
from lmsearch.data.idx import read_idx
from lmsearch.data.sources.idx import mean_and_std
from lmsearch.errors import DataError

CROSS = '[["h", "h_flip"]]'


@pytest.mark.parametrize("way", [{}, {"packed": False}, {"packed": False, "form": "."}])
def test_packed_and_plain_files_of_both_namings_give_the_same_images(way: dict, tmp_path: Path) -> None:
    write_idx(tmp_path, **way)
    source = build_source("idx", root=tmp_path)
    info = source.info
    assert (info.img_size, info.in_chans, info.class_names) == ((4, 4), 1, ("0", "1", "2", "3"))
    assert [len(part.labels) for part in (source.train, source.val, source.test)] == [72, 8, 20]
    given = source.train.eval_batch(np.arange(72)).inputs
    assert abs(given.mean()) < 1e-3 and abs(given.std() - 1) < 1e-2
    raw = gzip.decompress(gzip.compress(idx_bytes(np.arange(20) % 4)))
    assert source.test.labels.tolist() == list(raw[8:])


def test_colour_images_are_read_with_their_channels(tmp_path: Path) -> None:
    source = build_source("idx", root=write_idx(tmp_path, chans=3, packed=False))
    assert source.info.in_chans == 3
    content = (tmp_path / "t10k-images-idx4-ubyte").read_bytes()
    pixel = source.test.eval_batch(np.array([0])).inputs[0, 2, 1, 3] * source.info.std[2] + source.info.mean[2]
    assert round(float(pixel * 255)) == content[20 + (1 * 4 + 3) * 3 + 2]


def test_validation_comes_from_training_by_class_and_its_own_seed_only(tmp_path: Path) -> None:
    write_idx(tmp_path)
    one, again = (build_source("idx", root=tmp_path, val_fraction=0.25) for _ in range(2))
    other = build_source("idx", root=tmp_path, val_fraction=0.25, split_seed=1)
    few = build_source("idx", root=tmp_path, val_fraction=0.25, num_train=8)
    assert np.bincount(one.val.labels).tolist() == [5, 5, 5, 5] and np.bincount(few.train.labels).tolist() == [2, 2, 2, 2]
    seen = build_source("idx", root=tmp_path, mean=0.5, std=[0.25])
    assert (seen.info.mean, seen.info.std) == ((0.5,), (0.25,))
    with pytest.raises(DataError, match=r"its images have 1 channel\(s\); mean=\[0.5, 0.5\] is for 2"):
        build_source("idx", root=tmp_path, mean=[0.5, 0.5])
    with pytest.raises(DataError, match=r"std is 78.6; expected values of 1e-06 to 1, .*\(divide by 255\)"):
        build_source("idx", root=tmp_path, mean=0.13, std=78.6)
    assert bool((one.val.images == again.val.images).all()) and bool((one.val.images == few.val.images).all())
    assert not bool((one.val.images == other.val.images).all())


def test_names_come_from_a_file_beside_the_images_or_from_one_that_is_given(tmp_path: Path) -> None:
    write_idx(tmp_path / "data")
    (tmp_path / "data" / "names.txt").write_text("top\ntrousers\n\ncoat\nbag\n")
    (tmp_path / "mine").write_text("a\nb\nc\nd\ne\n")
    assert build_source("idx", root=tmp_path / "data").info.class_names == ("top", "trousers", "coat", "bag")
    assert build_source("idx", root=tmp_path / "data", names=str(tmp_path / "mine")).info.num_classes == 5
    with pytest.raises(DataError, match="no such file; expected a text file with one class name per line"):
        build_source("idx", root=tmp_path / "data", names=str(tmp_path / "none"))


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
BROKEN = {
    "cut off": (IMAGES, lambda old: old[:-5], f"{IMAGES}: cut off: 1275 bytes of 80 x 4 x 4 = 1280"),
    "head cut off": (IMAGES, lambda old: old[:9], f"{IMAGES}: cut off: 9 bytes, fewer than the 16 of its head"),
    "too long": (LABELS, lambda old: old + b"1", f"{LABELS}: too long: 81 bytes of 80 = 80"),
    "other number": (LABELS, lambda old: idx_bytes(np.zeros(70)), f"{LABELS}: 70 labels for the 80 images of {IMAGES}"),
    "wrong magic": (IMAGES, lambda old: b"\x1f" + old[1:], "begins with 0x1f000803; expected 0x00000803 or 0x00000804"),
    "other values": (IMAGES, lambda old: old[:2] + b"\x0d" + old[3:], "begins with 0x00000d03; expected 0x00000803"),
    "labels for images": (IMAGES, lambda old: idx_bytes(np.zeros(80)), "begins with 0x00000801; expected 0x00000803"),
    "no images": (IMAGES, lambda old: idx_bytes(np.zeros((0, 4, 4))), "0 images"),
    "other sides": (IMAGES, lambda old: idx_bytes(np.ones((80, 5, 4))), "images are of 5 x 4 x 1 and 4 x 4 x 1"),
    "one value": (IMAGES, lambda old: idx_bytes(np.ones((80, 4, 4))), r"all training images are of one value \(0.0039 of 1\)"),
    "unknown class": ("t10k-labels-idx1-ubyte", lambda old: old[:-1] + b"\7", "holds the label 7, and training only 0 to 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_clear_line(case: str, tmp_path: Path) -> None:
    name, change, message = BROKEN[case]
    write_idx(tmp_path, packed=False)
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        build_source("idx", root=tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_packed_file_that_is_cut_off_or_not_packed_is_one_clear_line(tmp_path: Path) -> None:
    packed = gzip.compress(idx_bytes(np.zeros(9)))
    for content in (packed[:-9], b"no gzip", b""):
        (tmp_path / "x.gz").write_bytes(content)
        with pytest.raises(DataError, match="x.gz: (cannot be read|begins with 0x)"):
            read_idx(tmp_path / "x.gz", axes=(1,))


def test_files_of_two_sets_in_one_folder_are_not_one_set(tmp_path: Path) -> None:
    for path in list(write_idx(tmp_path).iterdir()):
        of = "letters" if path.name.startswith("train") else "digits"
        path.rename(tmp_path / f"emnist-{of}-{path.name}")
    with pytest.raises(DataError, match="emnist-letters-train-images.*emnist-digits-t10k-labels.* are of several sets"):
        build_source("idx", root=tmp_path)
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / path.name.replace("letters", "digits"))
    assert len(build_source("idx", root=tmp_path).test.labels) == 20


def test_mean_and_std_are_those_of_all_values_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmsearch.data.sources.idx.CHUNK", 7)
    images, chosen = torch.randint(0, 256, (60, 3, 5, 4), dtype=torch.uint8), np.arange(0, 60, 2)
    values = images[chosen].double() / 255
    for found, wanted in zip(mean_and_std(images, chosen), (values.mean((0, 2, 3)), values.std((0, 2, 3))), strict=True):
        assert list(found) == [round(v, 4) for v in wanted.tolist()]


def test_a_channel_of_one_value_is_named_and_one_that_hardly_moves_is_taken() -> None:
    images = torch.randint(0, 256, (4000, 3, 2, 2), dtype=torch.uint8)
    images[:, 1] = 5
    assert mean_and_std(images, np.arange(4000))[1][1] == 0
    images[0, 1, 0, 0] = 6
    assert mean_and_std(images, np.arange(4000))[1][1] == 1e-4


def test_a_constant_channel_of_colour_images_is_refused_by_number(tmp_path: Path) -> None:
    path = write_idx(tmp_path, chans=3, packed=False) / "train-images-idx4-ubyte"
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    content[20:].reshape(-1, 3)[:, 2] = 0
    path.write_bytes(content.tobytes())
    with pytest.raises(DataError, match="channel 2 of all training images is of one value"):
        build_source("idx", root=tmp_path)


def test_missing_and_doubled_files_are_named_with_what_is_there(tmp_path: Path) -> None:
    write_idx(tmp_path, packed=False)
    (tmp_path / "letters-train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match=f"images of the train set are in letters-{IMAGES}, {IMAGES}; expected one file"):
        build_source("idx", root=tmp_path)
    (tmp_path / "letters-train-images-idx3-ubyte").unlink()
    (tmp_path / LABELS).unlink()
    with pytest.raises(DataError, match=f"labels of the train set are missing, found {IMAGES}, t10k-.*; expected train-images"):
        build_source("idx", root=tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="images of the train set are missing, found no idx file"):
        build_source("idx", root=tmp_path / "none")


@pytest.mark.parametrize(("options", "message"), [
    ({"num_train": 73}, "num_train is 73; .* has 72 images to train on beside 8"),
    ({"val_fraction": 0.01}, "val_fraction=0.01 of 80 training images leaves none to validate"),
    ({"val_fraction": 0}, "val_fraction is 0"),
    ({"val_digest": "x"}, "no longer those of which some were set aside for validation"),
])  # fmt: skip
def test_a_split_that_cannot_be_made_is_refused(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        build_source("idx", root=write_idx(tmp_path), **options)


def test_a_retraining_records_what_validates_and_is_measured_on_other_files_as_it_was_trained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_idx(tmp_path / "data", train=40, side=28)
    (tmp_path / "row.json").write_text(CROSS)
    words = ["data=idx", f"data.root={tmp_path / 'data'}", "model.depth=1", "model.embed_dim=8", "epochs=1", "baseline_limit=0"]
    assert main(["retrain", *words, f"genotype={tmp_path / 'row.json'}", f"run_dir={tmp_path / 'run'}"]) == 0
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 <= found["test_accuracy"] <= 1
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "val_digest: null" not in config and "val_digest:" in config and "patch_size: 2" in config
    images = (other := shutil.copytree(tmp_path / "data", tmp_path / "other")) / f"{IMAGES}.gz"
    values = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8)[16:].reshape(-1, 28, 28)
    images.write_bytes(gzip.compress(idx_bytes(values // 3)))  # darker ones, which the network was not trained with
    assert main(["evaluate", f"checkpoint={tmp_path / 'run'}", f"data.root={other}", f"run_dir={tmp_path / 'there'}"]) == 0
    there = json.loads((tmp_path / "there" / "metrics.json").read_text())
    assert (there["test_loss"], there["test_accuracy"]) == (found["test_loss"], found["test_accuracy"])
    said = "was trained on images of 28x28, the data has 20x20"
    assert said not in caplog.text
    small = write_idx(tmp_path / "small", side=20)
    assert main(["evaluate", f"checkpoint={tmp_path / 'run'}", f"data.root={small}", f"run_dir={tmp_path / 'small'}"]) == 0
    assert said in caplog.text
    write_idx(tmp_path / "data", train=84, side=28)
    assert main(["evaluate", f"checkpoint={tmp_path / 'run'}", f"run_dir={tmp_path / 'seen'}"]) == 2
