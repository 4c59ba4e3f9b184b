"""What a configuration leaves open is chosen here, once and before a run is claimed: image size, patch size and recipe.

What the user sets wins. The choices are said in one line each and stand in config.yaml.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from lmsearch.data import Source
from lmsearch.data.checks import size2d
from lmsearch.data.layout import Folder, read_folder
from lmsearch.data.survey import survey
from lmsearch.engine.recipes import choose_recipe
from lmsearch.errors import ConfigError
from lmsearch.models import create_model
from lmsearch.models.patches import choose_patch, own_patch
from lmsearch.settings.groups import keys_anywhere
from lmsearch.settings.shared import Training
from lmsearch.tasks.parts.build import build_data, own_options, plain
from lmsearch.words import as_text

log = logging.getLogger(__name__)
RECIPE_KEYS = {name: key.by_recipe for name, key in keys_anywhere(Training) if key.by_recipe}  # and what leaves them to it


def settle(cfg: DictConfig, *, task: str = "retrain") -> tuple[DictConfig, Source]:
    """Return the configuration with all that was left open filled in, and its data.

    task: "retrain" (one net) or "search" (a supernet).
    """
    cfg = copy.deepcopy(cfg)
    if cfg.data.name == "imagefolder":
        folder = settle_folder(cfg)
        settle_patch(cfg, size2d("img_size", plain(cfg.data)["img_size"]))
        settle_recipe(cfg, folder.train.num_images, task=task)
        return cfg, build_data(cfg, folder=folder)
    source = build_data(cfg)
    if source.info.targets.classes:
        settle_patch(cfg, source.info.img_size)
        settle_recipe(cfg, source.train.epoch_size(1), task=task, img_size=source.info.img_size)
    elif missing := open_keys(cfg):
        raise ConfigError(f"data={source.info.name} has no recipe to choose by; set {', '.join(missing)}")
    return cfg, source


def open_keys(cfg: DictConfig) -> list[str]:
    """Return the keys that are left to the recipe."""
    return [key for key in RECIPE_KEYS if is_open(cfg, key)]


def is_open(cfg: DictConfig, key: str) -> bool:
    """Tell whether a key is there and its value left to the recipe."""
    section = OmegaConf.select(cfg, key.rpartition(".")[0]) if "." in key else cfg
    leaf = key.rpartition(".")[2]
    if leaf not in section:
        return False
    return as_text(section[leaf]) == RECIPE_KEYS[key]


def settle_folder(cfg: DictConfig) -> Folder:
    """Fill in what the images themselves say: which of them validate, their size and channels."""
    data = cfg.data
    folder = read_folder(Path(data.root), val_fraction=data.val_fraction, val_digest=data.val_digest)
    fill(cfg, {"data.val_fraction": folder.val_fraction, "data.val_digest": folder.val_digest})
    if data.img_size is None or data.in_chans is None:
        seen = survey([path for paths in folder.train.classes.values() for path in paths])
        height, width = seen.img_size
        fill(cfg, {
            "data.img_size": height if height == width else [height, width], "data.in_chans": seen.in_chans,
        })  # fmt: skip
        log.info("%s: %s; data.img_size and data.in_chans set others", data.root, seen.why)
    return folder


def settle_patch(cfg: DictConfig, img_size: tuple[int, int]) -> None:
    """Choose the patch size where none is set and the model's own leaves too few or too many tokens."""
    if cfg.model.patch_size is not None:
        return
    depths = OmegaConf.select(cfg, "model.depths")
    stages = None if depths is None or isinstance(depths, int) else len(depths)
    patch = choose_patch(cfg.model.name, img_size, stages=stages)
    if patch == own_patch(cfg.model.name):
        return
    fill(cfg, {"model.patch_size": patch})
    height, width = img_size
    log.info(
        "patch size %d: %dx%d tokens for images of %dx%d; model.patch_size sets another size",
        patch, -(-height // patch), -(-width // patch), height, width,
    )  # fmt: skip


def settle_recipe(cfg: DictConfig, num_train: int, *, task: str, img_size: tuple[int, int] | None = None) -> None:
    """Choose epochs, batch size, optimizer and augmentation where they are left open."""
    missing = open_keys(cfg)
    if not missing:
        return
    size = img_size or size2d("img_size", plain(cfg.data)["img_size"])
    choice = choose_recipe(size, num_train, width=model_width(cfg, size), task=task, epochs=cfg.epochs, batch_size=cfg.batch_size)
    values = dict(choice.top) | {f"{part}.{k}": v for part in ("optim", "data") for k, v in getattr(choice, part).items()}
    for key in missing:
        OmegaConf.update(cfg, key, values[key])
    mine = [key for key in RECIPE_KEYS if key in values and key not in missing and OmegaConf.select(cfg, key) is not None]
    notes = [note for key, note in choice.notes.items() if key in missing]
    yours = f"; set or taken over: {', '.join(mine)}" if mine else "; any of its keys can be set"
    log.info("%s%s", ", ".join([choice.why, *notes]), yours)


def model_width(cfg: DictConfig, img_size: tuple[int, int]) -> int:
    """Return the channels of the model's first layer."""
    options = own_options(cfg)
    with torch.device("meta"):  # no memory, no time
        model = create_model(options.pop("name"), **options | {"img_size": list(img_size), "num_classes": 1})
    return model.mixers()[0].in_proj.in_features


def fill(cfg: DictConfig, values: Mapping[str, Any]) -> None:
    """Put values where the configuration holds null."""
    for key, value in values.items():
        if OmegaConf.select(cfg, key) is None:
            OmegaConf.update(cfg, key, value)
