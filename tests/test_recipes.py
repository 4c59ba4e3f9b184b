"""Which recipe, size and patch for which images, and what of them a user has set already."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmsearch.cli import main
from lmsearch.config import compose, settings_of
from lmsearch.data import build_source
from lmsearch.data.checks import size2d
from lmsearch.data.layout import read_folder, read_for_evaluation
from lmsearch.data.survey import Header, Survey, choose
from lmsearch.engine.recipes import choose_dense_recipe, choose_recipe
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError, DataError
from lmsearch.models import model_names
from lmsearch.models.dense import HEADS
from lmsearch.models.patches import choose_patch, own_patch
from lmsearch.run_identity import differences, run_digest
from lmsearch.settings.shared import Training
from lmsearch.settings.tasks import TASKS
from lmsearch.tasks.parts import settle as settling
from lmsearch.tasks.parts.known import Knowledge
from lmsearch.tasks.parts.settle import RECIPE_KEYS, fill, open_keys, settle, settle_patch, settle_recipe


def make_images(root: Path, *, splits=("train", "test"), number=10, size=(28, 28), mode="L") -> Path:
    """Write two classes of tiny images; a split "" puts the class folders directly under root."""
    pixels = np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    for split in splits:
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for index in range(number):
                image.save(root / split / name / f"{index}.png")
    return root


def composed(task: str, words: Sequence[str]) -> Training:
    """Return the settings of a training."""
    return settings_of(TASKS[task], compose(task, words))


def settled(root: Path, *words: str, task: str = "retrain") -> Training:
    """Return the settings of a task on the images of a folder."""
    needed = ["genotype=none"] if task == "retrain" else []
    return settle(composed(task, ["data=imagefolder", f"data.root={root}", *needed, *words]), task=task)[0]


def chosen(cfg: Training, *keys: str) -> list[object]:
    return [cfg.get(key) for key in keys]


@pytest.mark.parametrize("task", ["retrain", "search"])
def test_big_sets_of_large_images_get_localmambas_recipe_exactly(task: str) -> None:
    recipe = choose_recipe((224, 224), 1_281_167, width=192, task=task)
    assert recipe.top == {"epochs": {"retrain": 300, "search": 100}[task], "batch_size": 1024}
    assert recipe.micro_batch == 128 and choose_recipe((224, 224), 50_000, width=192, batch_size=256).micro_batch is None
    assert recipe.optim == {
        "lr": 0.001, "min_lr": 1e-06, "warmup_lr": 1e-07, "warmup_epochs": 20, "warmup_prefix": True,
        "weight_decay": 0.04, "clip_grad": None, "label_smoothing": 0.1, "mixup": 0.2, "cutmix": 1.0, "mix_prob": 1.0,
    }  # fmt: skip
    assert recipe.data == {
        "scale": [0.08, 1.0], "ratio": [3 / 4, 4 / 3], "flip_prob": 0.5, "randaugment_ops": 2, "randaugment_magnitude": 9.0,
        "randaugment_std": 0.5, "randaugment_set": "localmamba", "erasing_prob": 0.25, "crop_pct": 0.875,
    }  # fmt: skip


def test_small_images_are_hardly_augmented_and_small_sets_take_small_batches() -> None:
    recipe = choose_recipe((28, 28), 2400, width=32)
    assert recipe.top == {"epochs": 11, "batch_size": 32} and recipe.optim["lr"] == 0.008
    assert recipe.data["flip_prob"] == recipe.data["erasing_prob"] == recipe.data["randaugment_ops"] == 0
    assert recipe.data["scale"] == [0.9, 1.0] and recipe.data["crop_pct"] == 1.0
    few = choose_recipe((28, 28), 60, width=32)
    assert few.top == {"epochs": 100, "batch_size": 4} and few.optim["lr"] < 0.008
    assert choose_recipe((28, 28), 2400, width=192).optim["lr"] < 0.002


def test_heads_with_queries_take_smaller_steps_and_more_of_them() -> None:
    recipes = {name: choose_dense_recipe((64, 64), 960, recipe=kind.recipe, width=32) for name, kind in HEADS.items()}
    plain, boxes = recipes["plain"], recipes["deformable_detr"]
    assert plain.top == {"epochs": 12, "batch_size": 8} and boxes.top == {"epochs": 40, "batch_size": 8}
    assert (plain.optim["lr"], boxes.optim["lr"]) == (0.004, 0.001)
    assert boxes.optim["weight_decay"] < plain.optim["weight_decay"]
    masks = recipes["mask2former"]
    assert masks.top["epochs"] == 20 and masks.optim["lr"] == 0.001


def test_a_batch_that_nothing_sets_is_one_that_the_processes_can_share_and_the_rate_goes_with_it() -> None:
    sizes = {processes: choose_recipe((28, 28), 2400, width=32, processes=processes) for processes in (1, 3, 4, 6, 40)}
    assert [recipe.top["batch_size"] for recipe in sizes.values()] == [32, 30, 32, 30, 40]
    assert [recipe.optim["lr"] for recipe in sizes.values()] == [0.008, 0.0077, 0.008, 0.0077, 0.0089]
    assert [recipe.notes.get("batch_size") for recipe in sizes.values()][:2] == [
        None, "images of a step that 3 processes can share (alone 32)",
    ]  # fmt: skip
    given = choose_recipe((28, 28), 2400, width=32, processes=3, batch_size=32)
    assert given.top["batch_size"] == 32, "is refused, as it was given"
    dense = choose_dense_recipe((64, 64), 960, recipe="pixels", width=32, processes=3)
    assert dense.top["batch_size"] == 6 and dense.optim["lr"] == 0.0035 and "alone 8" in dense.notes["batch_size"]
    large = [choose_recipe((224, 224), 50_000, width=192, processes=processes) for processes in (1, 8, 16, 3, 6)]
    assert [(recipe.top["batch_size"], recipe.micro_batch) for recipe in large] == [
        (1024, 128),
        (1024, 128),
        (1024, 128),
        (1017, 113),
        (1020, 85),
    ]


@pytest.mark.parametrize("number", [1, 5, 40, 100, 10**4, 10**6])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (120, 160), (224, 224)])
def test_every_recipe_fills_every_key_and_warms_up_for_less_than_it_lasts(number: int, size: tuple[int, int]) -> None:
    for epochs in (None, 1, 3):
        recipe = choose_recipe(size, number, width=32, epochs=epochs)
        filled = {*recipe.top, *(f"data.{key}" for key in recipe.data), *(f"optim.{key}" for key in recipe.optim)}
        assert filled == set(RECIPE_KEYS)
        assert recipe.optim["warmup_epochs"] < recipe.top["epochs"]


@pytest.mark.parametrize(("name", "size", "patch"), [
    ("local_vim_nano", (8, 8), 1), ("local_vim_nano", (28, 28), 2), ("local_vim_nano", (32, 32), 2),
    ("local_vim_nano", (120, 160), 10), ("local_vim_nano", (224, 224), 16), ("local_vim_nano", (101, 101), 7),
    ("local_vim_tiny", (224, 224), 16), ("local_vim_tiny", (64, 64), 4), ("local_vmamba_tiny", (224, 224), 4),
    ("local_vmamba_tiny", (32, 32), 1), ("local_vmamba_nano", (56, 56), 4), ("local_vim_nano", (1, 1), 1),
])  # fmt: skip
def test_patches_leave_about_as_many_tokens_as_the_model_wants(name: str, size: tuple[int, int], patch: int) -> None:
    assert choose_patch(name, size) == patch


def test_at_their_own_size_all_models_keep_their_patches() -> None:
    for name in model_names():
        side = 8 if name.endswith("nano") else 224
        assert choose_patch(name, (side, side)) == own_patch(name)


@pytest.mark.parametrize("preset", ["ade20k", "coco"])
@pytest.mark.parametrize("name", ["local_vim_tiny", "local_vmamba_tiny"])
def test_patches_of_large_images_with_pixels_or_objects_are_the_models_own(preset: str, name: str) -> None:
    words = ["genotype=none", f"data={preset}", "data.root=none", f"model={name}"]
    size = size2d("img_size", composed("retrain", words).get("data.img_size"))
    assert choose_patch(name, size) > own_patch(name)  # what a classifier would take
    assert settle_patch(composed("retrain", words), size).get("model.patch_size") is None
    small = settle_patch(composed("retrain", [*words, "model.patch_size=null"]), (64, 64)).get("model.patch_size")
    assert small == choose_patch(name, (64, 64)) < own_patch(name)


@pytest.mark.parametrize("name", ["local_vim_nano", "local_vmamba_nano"])
def test_small_models_look_at_pixels_and_objects_as_at_classes(name: str) -> None:
    words = ["genotype=none", "data=dense", "data.root=none", "head=plain", f"model={name}"]
    for side, patch in ((32, 2), (48, 3), (1024, 4 if "vmamba" in name else 16)):
        assert settle_patch(composed("retrain", words), (side, side)).get("model.patch_size") == patch


def test_what_starts_from_weights_keeps_their_patches() -> None:
    words = ["genotype=none", "data=imagefolder", "data.root=none", "model=local_vim_tiny"]
    assert settle_patch(composed("retrain", words), (64, 64)).get("model.patch_size") == 4
    assert settle_patch(composed("retrain", [*words, "init_from=none"]), (64, 64)).get("model.patch_size") is None


@pytest.mark.parametrize(("sizes", "expected"), [
    ([(28, 28)] * 2, (28, 28)), ([(120, 160)] * 2, (120, 160)), ([(480, 640)] * 2, (224, 304)),
    ([(448, 896)] * 2, (224, 448)), ([(2000, 100)] * 2, (200, 100)),
    ([(101, 101)] * 2, (104, 104)), ([(300, 400), (400, 500), (500, 900)], (224, 224)), ([(37, 50), (37, 37)], (36, 36)),
    ([(1, 1)] * 2, (1, 1)),
])  # fmt: skip
def test_images_are_trained_on_at_their_own_size_within_a_limit(sizes: list, expected: tuple[int, int]) -> None:
    seen = choose([Header(size, True) for size in sizes])
    assert seen.img_size == expected and seen.in_chans == 1
    assert choose([Header((28, 28), True), Header((28, 28), False)]).in_chans == 3


def test_a_bare_command_on_small_images_is_settled_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cfg = settled(make_images(tmp_path))
    keys = ("data.img_size", "data.in_chans", "model.patch_size", "data.val_fraction", "epochs", "batch_size", "optim.clip_grad")
    assert chosen(cfg, *keys) == [28, 1, 2, 0.1, 100, 4, 1.0] and not open_keys(cfg)
    for said in ("28x28", "grey", "14x14 tokens", "18 images", "epochs=100", "no flips", "2 of 20 training images"):
        assert said in caplog.text
    assert settled(tmp_path) == cfg


def test_what_the_user_sets_wins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    words = ["data.img_size=16", "data.in_chans=3", "model.patch_size=8", "epochs=3", "data.flip_prob=0.5", "data.scale=[0.5,1]"]
    cfg = settled(make_images(tmp_path), *words, "optim.clip_grad=null", "optim.lr=1")
    keys = ("data.img_size", "data.in_chans", "model.patch_size", "epochs", "data.flip_prob", "data.scale", "optim.lr")
    assert chosen(cfg, *keys, "optim.clip_grad") == [16, 3, 8, 3, 0.5, [0.5, 1.0], 1.0, None]
    assert "; set or taken over: epochs, optim.lr, data.scale, data.flip_prob" in caplog.text and "no flips" not in caplog.text


def test_a_preset_with_numbers_leaves_only_the_data_open(tmp_path: Path) -> None:
    cfg = settled(make_images(tmp_path), "optim=retrain_digits", task="search")
    assert chosen(cfg, "epochs", "optim.lr", "data.flip_prob") == [16, 0.015, 0.0]


def test_tasks_that_others_settled_are_left_alone() -> None:
    for words in (["data=digits"], ["data=planted"]):
        cfg = composed("search", words)
        assert settle(cfg, task="search")[0] == cfg
    with pytest.raises(ConfigError, match="data=planted has no recipe to choose by; set epochs, batch_size"):
        settle(composed("search", ["data=planted", "optim=search_imagefolder"]))


BIG_OF_0_1_0 = "faddadbb97f4911bd20484a0b7dee0a4be81843a52bd72e698ecfd812959dd2d"  # digest of such a run in version 0.1.0


def test_a_big_image_folder_of_the_first_version_is_the_same_run() -> None:
    words = ["genotype=x", "data=imagefolder", "data.root=y", "batch_size=128", "optim.warmup_prefix=false"]  # as it chose
    words += ["data.randaugment_set=increasing"]
    cfg = fill(composed("retrain", words), {"data.img_size": 224, "data.in_chans": 3})
    cfg = settle_recipe(cfg, 1_281_167, (224, 224), task="retrain")
    assert run_digest(cfg.content) == BIG_OF_0_1_0
    assert run_digest(cfg.changed({"data.flip_prob": 0.0}).content) != BIG_OF_0_1_0


@pytest.mark.parametrize(("task", "words"), [
    ("search", ["model.depth=1"]), ("audit", ["model.depth=1"]), ("compare", ["model.depth=1", "arms=[raster,cross]"]),
    ("retrain", ["model=local_vim", "model.depth=20", "genotype=localmamba/local_vim_tiny"]),
])  # fmt: skip
def test_batches_as_published_are_computed_in_parts(
    task: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):
        pass

    taken = []

    def seen(batch_size: int, spec: object, precision: Precision, **_: object) -> None:
        taken.append((batch_size, precision.micro_batch))
        raise Enough

    monkeypatch.setattr("lmsearch.engine.recipes.BIG_SET", 1)
    monkeypatch.setattr("lmsearch.engine.recipes.BIG_SIDE", 1)
    monkeypatch.setattr(f"lmsearch.tasks.{task}.check_memory", seen)
    make_images(tmp_path, number=2)
    words = [task, "data=imagefolder", f"data.root={tmp_path}", "model.embed_dim=8", "device=cpu", *words]
    for own in ([], ["micro_batch=64"]):
        with pytest.raises(Enough):
            main([*words, *own])
    assert taken == [(1024, 128), (1024, 64)]


# ---------------------------------------------------------------- which images validate
def test_images_that_validate_are_set_aside_of_every_class_whatever_the_seed(tmp_path: Path) -> None:
    folder = read_folder(make_images(tmp_path), val_fraction=0.3)
    assert [len(p) for p in folder.val.classes.values()] == [3, 3] and folder.train.num_images == 14
    assert not set(folder.val.classes["cat"]) & set(folder.train.classes["cat"])
    assert folder == read_folder(tmp_path, val_fraction=0.3, val_digest=folder.val_digest) and folder.test is not folder.val


def test_class_folders_alone_are_trained_on_validated_and_tested(tmp_path: Path) -> None:
    source = build_source("imagefolder", root=make_images(tmp_path, splits=("",)), img_size=28, in_chans=1)
    assert (source.train.epoch_size(1), source.val.epoch_size(1)) == (16, 4) and source.test is source.val
    assert source.train.labels.tolist() == [0] * 8 + [1] * 8


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_a_validation_folder_is_found_by_its_names_and_excludes_a_fraction(tmp_path: Path, name: str) -> None:
    folder = read_folder(make_images(tmp_path, splits=("train", name)))
    assert folder.val.folder.name == name and folder.train.num_images == 20 and folder.val_digest is None
    with pytest.raises(DataError, match=f"val_fraction is 0.2, but .*{name} is there and validates"):
        read_folder(tmp_path, val_fraction=0.2)


def test_splits_go_by_their_names_in_any_case_and_two_folders_of_one_are_refused(tmp_path: Path) -> None:
    for number, splits in enumerate([("Training", "Testing"), ("train", "Test")]):
        root = make_images(tmp_path / str(number), splits=splits)
        folder = read_folder(root)
        assert (folder.train.folder, folder.test.folder) == (root / splits[0], root / splits[1])
        assert list(folder.train.classes) == ["cat", "dog"]
        assert read_for_evaluation(root, class_names=("cat", "dog")).test.folder == root / splits[1]
    make_images(root, splits=("Training",))
    with pytest.raises(DataError, match="Training/ and train/ are both taken for the train split; leave one of them there"):
        read_folder(root)


def test_splits_that_are_called_otherwise_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_folder(make_images(tmp_path, splits=("a/train set", "a/test set")) / "a")
    assert "test set/, train set/ are taken for classes, but images of all of them are in folders called cat, dog" in caplog.text
    caplog.clear()
    read_folder(tmp_path / "a" / "train set")
    assert "taken for classes" not in caplog.text


def test_a_trained_network_is_measured_on_all_images_of_another_folder(tmp_path: Path) -> None:
    for number, splits in enumerate([("",), ("train",), ("test",), ("train", "val"), ("train", "val", "test")]):
        root = make_images(tmp_path / str(number), splits=splits, number=2 + number)
        folder = read_for_evaluation(root, class_names=("cat", "dog"))
        assert folder.test.folder == root / splits[-1] and folder.test.num_images == 2 * (2 + number)


def test_another_share_or_other_channels_void_what_the_run_has_of_them() -> None:
    values = {"data.val_fraction": 0.1, "data.val_digest": "x", "data.in_chans": 1, "data.mean": [0.5], "data.std": [0.5]}
    known = Knowledge("run", {}, values)
    assert known.beside({"epochs": "1", "data.in_chans": "1", "data.val_fraction": "0.1"}) == known
    assert set(values) - set(known.beside({"data.val_fraction": "0.2"}).values) == {"data.val_digest"}
    assert set(values) - set(known.beside({"data.in_chans": "3"}).values) == {"data.mean", "data.std"}


def test_a_folder_that_has_changed_or_has_too_few_images_is_refused(tmp_path: Path) -> None:
    folder = read_folder(make_images(tmp_path, splits=("train",), number=5))
    folder.val.classes["cat"][0].unlink()
    with pytest.raises(DataError, match="no longer those of which some were set aside"):
        read_folder(tmp_path, val_digest=folder.val_digest)
    for path in sorted((tmp_path / "train" / "dog").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match="dog: holds 1 image, and one must train and one validate"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="holds one folder only"):
        read_folder(make_images(tmp_path / "one", splits=("images",)))


def test_values_that_do_what_the_first_version_did_are_shown_as_they_are() -> None:
    there, here = {"optim": {"layer_decay": 1.0}}, {"optim": {"layer_decay": 0.9}}
    assert differences(there, here) == ["optim.layer_decay=1.0 there, 0.9 here"]
    assert differences(here, there) == ["optim.layer_decay=0.9 there, 1.0 here"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "images at 24x24 pixels (their own size), all grey; data.img_size and data.in_chans set others"),
        (["data.img_size=16"], "all grey; data.in_chans sets another"),
        (["data.in_chans=3"], "images at 24x24 pixels (their own size); data.img_size sets another"),
    ],
)
def test_only_what_images_decide_is_told(
    given: list[str], told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Survey((24, 24), 1, "images at 24x24 pixels (their own size)", "all grey")
    monkeypatch.setattr(settling, "survey", lambda paths: seen)
    settings = settings_of(TASKS["retrain"], compose("retrain", ["genotype=none", "data=imagefolder", "data.root=x", *given]))
    with caplog.at_level(logging.INFO):
        settling.fill_looks(settings, [], root="x")
    assert caplog.messages == [f"x: {told}"]
