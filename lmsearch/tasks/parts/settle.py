"""What a configuration leaves open is chosen here, once and before a run is claimed: image size, patch size and recipe.

What the user sets wins. The choices are said in one line each and stand in config.yaml.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from lmsearch.data import Source
from lmsearch.data.checks import size2d
from lmsearch.data.dense.folder import DenseFolder, Wanted, read_dense
from lmsearch.data.info import CLASS, INSTANCES, SEGMENTATION
from lmsearch.data.layout import Folder, read_folder
from lmsearch.data.sources.idx import Split, read_sets
from lmsearch.data.survey import survey
from lmsearch.engine.recipes import choose_dense_recipe, choose_recipe
from lmsearch.errors import ConfigError, DataError
from lmsearch.models import create_model
from lmsearch.models.dense import HeadKind, head_kind
from lmsearch.models.dense.heads import HEADS
from lmsearch.models.patches import choose_patch, largest_dense_patch, own_patch
from lmsearch.settings.data import Dense, Idx, ImageFolder
from lmsearch.settings.groups import keys_anywhere, keys_within
from lmsearch.settings.model import Model
from lmsearch.settings.shared import Training
from lmsearch.tasks.parts.build import build_data, check_learns, seen_by
from lmsearch.words import as_text

log = logging.getLogger(__name__)
RECIPE_KEYS = tuple(dict.fromkeys(name for name, key in keys_anywhere(Training) if key.by_recipe))
DEFAULT_HEAD = "plain"  # of dense data
T = TypeVar("T", bound=Training)


def settle(settings: T, *, task: str = "retrain", processes: int = 1) -> tuple[T, Source]:
    """Return the settings with all that was left open filled in, and their data.

    task: "retrain" (one net) or "search" (a supernet). `processes` are those that share a batch.
    """
    recipe = partial(settle_recipe, task=task, processes=processes)
    if isinstance(settings.data, ImageFolder):
        if settings.head is not None:
            check_learns(settings.head, settings.data.name, CLASS)
        settings, folder = settle_folder(settings, settings.data)
        size = size2d("img_size", settings.get("data.img_size"))
        settings = recipe(settle_patch(settings, size), folder.train.num_images, size)
        return settings, build_data(settings.data, folder=folder)
    if isinstance(settings.data, Dense):
        settings, dense = settle_dense(settings, settings.data)
        source = seen_by(settings.head, build_data(settings.data, folder=dense))
        size = source.info.img_size
        return recipe(settle_patch(settings, size), len(dense.train), size), source
    if isinstance(settings.data, Idx):
        settings, source = settle_idx(settings, settings.data)
    else:
        source = build_data(settings.data)
    if settings.head is not None:
        check_learns(settings.head, source.info.name, source.info.targets)
    if source.info.targets.classes:
        size = source.info.img_size
        return recipe(settle_patch(settings, size), source.train.epoch_size(1), size), source
    if missing := open_keys(settings):
        raise ConfigError(f"data={source.info.name} has no recipe to choose by; set {', '.join(missing)}")
    return settings, source


def open_keys(settings: Training) -> list[str]:
    """Return the keys that are left to the recipe."""
    keys = keys_within(type(settings), settings.content)
    return [name for name, key in keys if key.by_recipe and as_text(settings.get(name)) == key.by_recipe]


def settle_folder(settings: T, data: ImageFolder) -> tuple[T, Folder]:
    """Fill in what the images themselves say: which of them validate, their size and channels."""
    folder = read_folder(Path(data.root), val_fraction=data.val_fraction, val_digest=data.val_digest)
    settings = fill(settings, {"data.val_fraction": folder.val_fraction, "data.val_digest": folder.val_digest})
    if data.img_size is None or data.in_chans is None:
        settings = fill_looks(settings, [path for paths in folder.train.classes.values() for path in paths], root=data.root)
    return settings, folder


def settle_idx(settings: T, data: Idx) -> tuple[T, Source]:
    """Fill in what tells which images validate, and return the data, whose files are read once."""
    split = Split(data.val_fraction, data.split_seed, data.val_digest, data.num_train)
    sets = read_sets(data.root, split, names=data.names)
    settings = fill(settings, {"data.val_digest": sets.val_digest})
    log.info(
        "%s: %d images train, %d of the official training set validate, the same for every seed, and %d test",
        data.root, len(sets.train), len(sets.val), len(sets.test_labels),
    )  # fmt: skip
    return settings, build_data(settings.data, folder=sets)


def settle_dense(settings: T, data: Dense) -> tuple[T, DenseFolder]:
    """Fill in what a head learns from, which images validate, and the images' size and channels."""
    settings = fill(settings, {"head": DEFAULT_HEAD})
    wanted = Wanted(data.ignore_index, data.reduce_zero_label, data.on_error)
    folder = read_dense(
        Path(data.root), format=data.format, wanted=wanted, val_fraction=data.val_fraction, val_digest=data.val_digest
    )
    settings = fill(settings, {"data.val_fraction": folder.val_fraction, "data.val_digest": folder.val_digest})
    kind = head_kind(settings.head)
    settings = fill(settings, {"data.target": target_of(kind, folder)})
    check_outlines(kind, folder, target=settings.get("data.target"))
    if data.img_size is None or data.in_chans is None:
        settings = fill_looks(settings, folder.train.paths(), root=data.root)
    return settings, folder


def target_of(head: HeadKind, folder: DenseFolder) -> str:
    """Return what a head learns from a folder: the first of its targets that the folder has, else its first."""
    has = {SEGMENTATION.name: folder.masks is not None or folder.has_outlines, INSTANCES.name: folder.masks is None}
    return next((target for target in head.targets if has[target]), head.targets[0])


def check_outlines(head: HeadKind, folder: DenseFolder, *, target: str) -> None:
    """Raise DataError where a head would learn from masks of objects of which some have none."""
    if head.masks and target == INSTANCES.name and folder.num_boxes:
        told = f"{folder.num_boxes} of {folder.num_things} objects have a box only"
        boxes = ", ".join(f"head={kind.name}" for kind in HEADS.values() if INSTANCES.name in kind.targets and not kind.masks)
        raise DataError(
            f"{folder.root}: head={head.name} learns from the outline of every object, but {told}; {boxes} learns boxes"
        )


def fill_looks(settings: T, paths: Sequence[Path], *, root: str) -> T:
    """Fill in the size and channels that images of these files suggest."""
    seen = survey(paths)
    height, width = seen.img_size
    size = height if height == width else [height, width]
    told = {"data.img_size": seen.sizes, "data.in_chans": seen.colour}
    open_keys = [key for key in told if settings.get(key) is None]
    others = "sets another" if len(open_keys) == 1 else "set others"
    log.info("%s: %s; %s %s", root, ", ".join(told[key] for key in open_keys), " and ".join(open_keys), others)
    return fill(settings, {"data.img_size": size, "data.in_chans": seen.in_chans})


def settle_patch(settings: T, img_size: tuple[int, int]) -> T:
    """Choose the patch size where none is set and the model's own leaves too few or too many tokens.

    Weights to start from have the patches that they were trained on: what is taken over from them says others, or they have the
    model's own. Of large images, pixels and objects need more tokens than a class: no patches are larger than the published ones.
    """
    model = settings.model
    if model.patch_size is not None or settings.get("init_from") is not None:
        return settings
    stages = len(model.depths) if isinstance(model.depths, list) else None
    patch, own = choose_patch(model.name, img_size, stages=stages), own_patch(model.name)
    if settings.head is not None:
        patch = min(patch, largest_dense_patch(model.name))
    if patch == own:
        return settings
    height, width = img_size
    log.info(
        "patch size %d: %dx%d tokens for images of %dx%d; model.patch_size sets another size",
        patch, -(-height // patch), -(-width // patch), height, width,
    )  # fmt: skip
    return settings.changed({"model.patch_size": patch})


def settle_recipe(settings: T, num_train: int, img_size: tuple[int, int], *, task: str, processes: int = 1) -> T:
    """Choose epochs, batch size, optimizer and augmentation where they are left open."""
    missing = open_keys(settings)
    if not missing:
        return settings
    given: dict[str, Any] = {"epochs": settings.epochs, "batch_size": settings.batch_size, "processes": processes}
    given["width"] = model_width(settings.model, img_size)
    if settings.head is None:
        choice = choose_recipe(img_size, num_train, task=task, **given)
    else:
        choice = choose_dense_recipe(img_size, num_train, recipe=head_kind(settings.head).recipe, **given)
    values = dict(choice.top) | {f"{part}.{k}": v for part in ("optim", "data") for k, v in getattr(choice, part).items()}
    mine = [name for name in RECIPE_KEYS if name in values and name not in missing and settings.get(name) is not None]
    notes = [note for key, note in choice.notes.items() if key in missing]
    yours = f"; set or taken over: {', '.join(mine)}" if mine else "; any of its keys can be set"
    log.info("%s%s", ", ".join([choice.why, *notes]), yours)
    return fill(settings.changed({name: values[name] for name in missing}), {"micro_batch": choice.micro_batch})


def model_width(model: Model, img_size: tuple[int, int]) -> int:
    """Return the channels of the model's first layer."""
    options = model.options()
    with torch.device("meta"):  # no memory, no time
        net = create_model(options.pop("name"), **options | {"img_size": list(img_size), "num_classes": 1})
    return net.mixers()[0].in_proj.in_features


def fill(settings: T, values: Mapping[str, Any]) -> T:
    """Return the settings with values where they hold null."""
    return settings.changed({name: value for name, value in values.items() if settings.get(name) is None})
