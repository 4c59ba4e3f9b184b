"""Which recipe for which images: LocalMamba's for big sets of large images, another one for small images and small sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmsearch.data.order import shared_by

BIG_SET, BIG_SIDE = 50_000, 128  # training images, and pixels of the short side, from which on LocalMamba's recipe is taken
SMALL_SIDE = 64  # pixels of the short side up to which crops leave nearly all of an image
FULL_BATCH, LEAST_BATCH = 32, 4
LR, LR_WIDTH = 0.008, 32  # peak learning rate of batches of FULL_BATCH, for tokens of so many channels; wider ones take less

LOCALMAMBA_DATA = {
    "flip_prob": 0.5, "scale": [0.08, 1.0], "ratio": [3 / 4, 4 / 3], "randaugment_ops": 2, "randaugment_magnitude": 9.0,
    "randaugment_std": 0.5, "randaugment_set": "localmamba", "erasing_prob": 0.25, "crop_pct": 0.875,
}  # fmt: skip
LOCALMAMBA_OPTIM = {
    "lr": 1e-3, "min_lr": 1e-6, "warmup_lr": 1e-7, "warmup_epochs": 20, "warmup_prefix": True, "weight_decay": 0.04,
    "clip_grad": None, "label_smoothing": 0.1, "mixup": 0.2, "cutmix": 1.0, "mix_prob": 1.0,
}  # fmt: skip
LOCALMAMBA_EPOCHS = {"retrain": 300, "search": 100}
LOCALMAMBA_BATCH, LOCALMAMBA_PART = 1024, 128  # images of a step, and of one of the eight GPUs that were published
SMALL_DATA = {
    "flip_prob": 0.0, "randaugment_ops": 0, "randaugment_magnitude": 9.0, "randaugment_std": 0.5,
    "randaugment_set": "increasing", "erasing_prob": 0.0, "crop_pct": 1.0,
}  # fmt: skip
SMALL_OPTIM = {
    "min_lr": 1e-5, "warmup_lr": 1e-5, "warmup_epochs": 1, "warmup_prefix": False, "weight_decay": 0.05, "clip_grad": 1.0,
    "label_smoothing": 0.05, "mixup": 0.0, "cutmix": 0.0, "mix_prob": 0.0,
}  # fmt: skip

DENSE_BATCH = 8  # images of a step
DENSE_OPTIM = SMALL_OPTIM | {"warmup_epochs": 2, "label_smoothing": 0.0}


@dataclass(frozen=True)
class DenseRecipe:
    """How a head is trained: peak learning rate for tokens of LR_WIDTH channels, and the images that a training shows, about."""

    lr: float
    weight_decay: float
    shown: int
    epochs: tuple[int, int]  # fewest and most


DENSE_RECIPES = {  # by HeadKind.recipe
    "pixels": DenseRecipe(0.004, 0.05, 9_600, (12, 60)),
    "masks": DenseRecipe(0.001, 1e-4, 19_200, (12, 100)),
    "queries": DenseRecipe(0.001, 1e-4, 38_400, (24, 200)),
}


@dataclass(frozen=True)
class Choice:
    """Values of the keys in data, in optim and at the top, by name; one sentence why, and what the values of some keys mean.

    `micro_batch`: images computed at a time where both batch_size and that are open; None: all of a step.
    """

    data: Mapping[str, Any]
    optim: Mapping[str, Any]
    top: Mapping[str, int]
    why: str
    notes: Mapping[str, str] = field(default_factory=dict)
    micro_batch: int | None = None


def choose_recipe(
    img_size: tuple[int, int],
    num_train: int,
    *,
    width: int,
    task: str = "retrain",
    epochs: int | None = None,
    batch_size: int | None = None,
    processes: int = 1,
) -> Choice:
    """Return the recipe for `num_train` images of `img_size` (height, width) pixels and a model of `width` channels.

    task: "retrain" (one net) or "search" (a supernet). `epochs` and `batch_size` are those that are set already; a batch size
    that is not is one that so many `processes` can share.
    """
    height, wide = img_size
    if num_train >= BIG_SET and min(img_size) >= BIG_SIDE:
        fitting, part = in_parts(LOCALMAMBA_BATCH, processes)
        top = {"epochs": epochs or LOCALMAMBA_EPOCHS[task], "batch_size": batch_size or fitting}
        why = f"{num_train} images of {height}x{wide} pixels: LocalMamba's recipe, " + told(top)
        optim = warmed(LOCALMAMBA_OPTIM, top["epochs"])
        published = "images of a step as published" if fitting == LOCALMAMBA_BATCH else told_shared(LOCALMAMBA_BATCH, processes)
        notes = {"batch_size": f"{published}; {part} are computed at a time where micro_batch is open"}
        return Choice(LOCALMAMBA_DATA, optim, top, why, notes, None if batch_size else part)
    small = min(img_size) <= SMALL_SIDE
    usual = batch_for(num_train)
    epochs, batch = epochs or epochs_for(num_train, small=small), batch_size or shared_by(processes, usual)
    scale, stretch = ([0.9, 1.0], 1.05) if small else ([0.5, 1.0], 5 / 4)
    aspect = wide / height  # boxes have the shape that evaluation sees
    data = SMALL_DATA | {"scale": scale, "ratio": [round(aspect / stretch, 4), round(aspect * stretch, 4)]}
    lr = LR * min(1.0, LR_WIDTH / width) * min(2.0, (batch / FULL_BATCH) ** 0.5)
    optim = warmed(SMALL_OPTIM | {"lr": float(f"{lr:.2g}")}, epochs)
    top = {"epochs": epochs, "batch_size": batch}
    kind = "small images" if small else "a small set"
    why = f"{num_train} images of {height}x{wide} pixels: the recipe for {kind}, " + told(top)
    notes = {
        "data.scale": "crops of nine tenths of the area or more" if small else "crops of half the area or more",
        "data.flip_prob": "no flips (data.flip_prob=0.5 where left and right mean the same)",
    } | ({} if batch == usual else {"batch_size": told_shared(usual, processes)})
    return Choice(data, optim, top, why, notes)


def choose_dense_recipe(
    img_size: tuple[int, int],
    num_train: int,
    *,
    recipe: str,
    width: int,
    epochs: int | None = None,
    batch_size: int | None = None,
    processes: int = 1,
) -> Choice:
    """Return the recipe for `num_train` images with a class per pixel or with objects.

    recipe: a name of DENSE_RECIPES, as HeadKind.recipe. Other arguments as of `choose_recipe`.
    The published schedules for large sets are presets of their own (conf/optim/).
    """
    height, wide = img_size
    plan = DENSE_RECIPES[recipe]
    usual = batch_for(num_train, most=DENSE_BATCH)
    batch = batch_size or shared_by(processes, usual)
    epochs = epochs or min(plan.epochs[1], max(plan.epochs[0], plan.shown // num_train))
    lr = plan.lr * min(1.0, LR_WIDTH / width) * min(2.0, (batch / DENSE_BATCH) ** 0.5)
    top = {"epochs": epochs, "batch_size": batch}
    why = f"{num_train} images of {height}x{wide} pixels with labels for each: " + told(top)
    optim = DENSE_OPTIM | {"lr": float(f"{lr:.2g}"), "weight_decay": plan.weight_decay}
    notes = {} if batch == usual else {"batch_size": told_shared(usual, processes)}
    return Choice({}, warmed(optim, epochs), top, why, notes)


def epochs_for(num_train: int, *, small: bool) -> int:
    """Return the epochs that show about 27,000 small images or 60,000 larger ones, within 10 or 20 to 100."""
    least, shown = (10, 27_000) if small else (20, 60_000)
    return min(100, max(least, shown // num_train))


def batch_for(num_train: int, *, most: int = FULL_BATCH) -> int:
    """Return the power of two that makes eight batches or more, from LEAST_BATCH to `most`."""
    batch = most
    while batch > LEAST_BATCH and batch * 8 > num_train:
        batch //= 2
    return batch


def in_parts(batch: int, processes: int) -> tuple[int, int]:
    """Return about as many images, which so many processes share in equal parts of LOCALMAMBA_PART at most, and a part's.

    The part is LOCALMAMBA_PART wherever the processes share `batch`: a run may go on with another number of them.
    """
    if batch % processes == 0:
        return batch, LOCALMAMBA_PART
    share = max(batch // processes, 1)
    parts = -(-share // LOCALMAMBA_PART)
    return processes * parts * (share // parts), share // parts


def told_shared(usual: int, processes: int) -> str:
    """Return the words for a batch size that is not the usual one."""
    return f"images of a step that {processes} processes can share (alone {usual})"


def warmed(optim: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return the keys of optim with a warm-up that leaves most of the epochs."""
    warmup = optim["warmup_epochs"]
    return dict(optim) | {"warmup_epochs": warmup if warmup < epochs else epochs // 4}


def told(values: Mapping[str, Any]) -> str:
    """Return values as they are typed."""
    return " ".join(f"{key}={value}" for key, value in values.items())
