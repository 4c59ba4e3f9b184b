"""From a configuration to plain objects: data, model description, trainer. Below this folder nobody sees Hydra."""

from __future__ import annotations

import logging
from dataclasses import asdict

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from lmsearch.data import DataInfo, Source, build_source
from lmsearch.data.info import target_kind
from lmsearch.data.layout import Folder
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.devices import device_named
from lmsearch.engine.objective import Objective, metric_for, objective_for
from lmsearch.engine.recipe import Recipe
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError
from lmsearch.models import create_model
from lmsearch.scan.grids import Grid, grid_text

log = logging.getLogger(__name__)
UNEQUAL = 3  # times as many training images in the largest class as in the smallest, at which that is said


def plain(node: DictConfig) -> dict:
    """Return a configuration section as a dict, without its unset keys."""
    return {k: v for k, v in OmegaConf.to_container(node, resolve=True).items() if v is not None}


def build_precision(cfg: DictConfig) -> Precision:
    """Return the device and how it computes; raise ConfigError for device=cuda without a CUDA device."""
    recompute = bool(OmegaConf.select(cfg, "model.grad_checkpointing"))  # tasks that train nothing may have no such key
    return Precision(device_named(cfg.device), cfg.precision, cfg.get("micro_batch"), recompute)


def build_data(cfg: DictConfig, *, folder: Folder | None = None) -> Source:
    """Return the data source of cfg.data, drawn as data.sampler says; `folder` is the image folder at its root, once listed."""
    options = source_options(cfg) | ({} if folder is None else {"root": folder})
    source = build_source(options.pop("name"), **options)
    return source.balanced() if cfg.data.get("sampler") == "balanced" else source


def warn_unequal(cfg: DictConfig, source: Source) -> None:
    """Say so, with the keys to set, where some classes have many more training images than others and nothing evens that out."""
    weighted, drawn = cfg.optim.class_weights == "balanced", source.sampler == "balanced"
    if weighted and drawn:
        log.warning("optim.class_weights=balanced has no effect with data.sampler=balanced, which draws all classes alike")
    if source.train.labels is None or weighted or drawn:
        return
    counts = np.bincount(source.train.labels, minlength=source.info.num_classes)
    if counts.max() < UNEQUAL * max(counts.min(), 1):
        return
    least, most = (f"{counts[i]} of {source.info.class_names[i]!r}" for i in (counts.argmin(), counts.argmax()))
    log.warning(
        "classes are unequal: from %s to %s training images, so that answering large classes pays; optim.class_weights=balanced"
        " or data.sampler=balanced train them alike, metric=balanced_accuracy judges them alike",
        least,
        most,
    )


def source_options(cfg: DictConfig) -> dict:
    """Return what cfg.data says about the data themselves, not how training draws them."""
    return {key: value for key, value in plain(cfg.data).items() if key != "sampler"}


def build_objective(info: DataInfo, metric: str | None = None) -> Objective:
    """Return what the data asks for, one class per image or one value per token, judged by `metric` or the default one."""
    return objective_for(info.target, metric=metric)


def own_options(cfg: DictConfig) -> dict:
    """Return the name and the options that cfg.model sets; how training computes it is none of them."""
    return {key: value for key, value in plain(cfg.model).items() if key != "grad_checkpointing"}


def model_options(cfg: DictConfig, info: DataInfo) -> dict:
    """Return the options of create_model: those set in cfg.model, and image size, channels and classes from the data."""
    options = own_options(cfg)
    options.pop("name")
    return options | {"img_size": list(info.img_size), "in_chans": info.in_chans, "num_classes": info.num_classes}


def model_spec(cfg: DictConfig, info: DataInfo, directions: tuple[tuple[str, ...], ...], *, merge: str) -> ModelSpec:
    """Return the description of the model that cfg.model names, with `directions`, for this data."""
    return ModelSpec(
        cfg.model.name, directions, merge, model_options(cfg, info), {"info": asdict(info), "source": source_options(cfg)}
    )


def check_tokens(cfg: DictConfig, info: DataInfo, grid: Grid) -> None:
    """Raise ConfigError where the model has other tokens than the data has targets."""
    if info.targets.per_token and tuple(grid) != tuple(info.img_size):
        raise ConfigError(
            f"data={info.name} has one target for each of {grid_text(info.img_size)} pixels, but model={cfg.model.name} makes"
            f" {grid_text(grid)} tokens of them; set model.patch_size=1"
        )


def layer_grids(cfg: DictConfig, info: DataInfo) -> tuple[list[Grid], str]:
    """Return the token grid of every layer of the configured model on this data, and its window padding."""
    with torch.device("meta"):  # no memory, no time
        model = create_model(cfg.model.name, **model_options(cfg, info))
    padding = model.mixers()[0].options.window_padding
    grids = model.layer_grids(info.img_size)
    check_tokens(cfg, info, grids[-1])
    return grids, padding


def build_recipe(cfg: DictConfig) -> Recipe:
    """Return cfg.optim, epochs and batch size as plain values; raise ConfigError where the warm-up outlasts the run."""
    if cfg.optim.warmup_epochs > cfg.epochs:
        raise ConfigError(f"optim.warmup_epochs={cfg.optim.warmup_epochs} is more than epochs={cfg.epochs}, of which it is part")
    values = OmegaConf.to_container(cfg.optim, resolve=True)
    return Recipe(cfg.epochs, cfg.batch_size, **values | {"betas": tuple(values["betas"])})


def check_micro_batch(cfg: DictConfig) -> None:
    """Raise ConfigError where a batch cannot be cut into equal parts of the configured size."""
    micro, batch = cfg.get("micro_batch"), cfg.batch_size
    if micro is not None and batch % micro:
        fitting = max(part for part in range(1, min(micro, batch) + 1) if batch % part == 0)
        raise ConfigError(f"micro_batch={micro} does not divide batch_size={batch}; the next smaller one that does is {fitting}")


def check_training(cfg: DictConfig, spec: ModelSpec) -> None:
    """Raise ConfigError or ModelError where recipe, metric or model do not fit: before anything is written or started over."""
    target = spec.data["info"]["target"]
    metric_for(target, cfg.get("metric"))
    check_micro_batch(cfg)
    if build_recipe(cfg).class_weights != "none" and not target_kind(target).classes:
        raise ConfigError(f"optim.class_weights={cfg.optim.class_weights} needs data with classes; {cfg.data.name} has none")
    with torch.device("meta"):  # no memory, no time
        spec.build(backend=cfg.backend)
