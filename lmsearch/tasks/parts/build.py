"""From a configuration to plain objects: data, model description, trainer. Below this folder nobody sees Hydra."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from lmsearch.data import DataInfo, Source, build_source
from lmsearch.data.info import target_kind
from lmsearch.data.layout import Folder
from lmsearch.engine.best import Best
from lmsearch.engine.checkpoint import ModelSpec, load_checkpoint, save_checkpoint
from lmsearch.engine.finite import unfinite_weights
from lmsearch.engine.objective import Objective, metric_for, objective_for
from lmsearch.engine.optim import load_optimizer
from lmsearch.engine.recipe import Recipe
from lmsearch.engine.train import Precision, Trainer
from lmsearch.errors import CheckpointError, ConfigError
from lmsearch.models import create_model
from lmsearch.scan.directions import Grid

log = logging.getLogger(__name__)
UNEQUAL = 3  # times as many training images in the largest class as in the smallest, at which that is said


def plain(node: DictConfig) -> dict:
    """Return a configuration section as a dict, without its unset keys."""
    return {k: v for k, v in OmegaConf.to_container(node, resolve=True).items() if v is not None}


def build_precision(cfg: DictConfig) -> Precision:
    """Return the device and number format; raise ConfigError for device=cuda without a CUDA device."""
    name = cfg.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device='cuda' but PyTorch sees no CUDA device; use device=cpu or device=auto")
    return Precision(torch.device(name), cfg.precision)


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


def model_options(cfg: DictConfig, info: DataInfo) -> dict:
    """Return the options of create_model: those set in cfg.model, and image size, channels and classes from the data."""
    options = plain(cfg.model)
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
        height, width = info.img_size
        raise ConfigError(
            f"data={info.name} has one target for each of {height}x{width} pixels, but model={cfg.model.name} makes"
            f" {grid[0]}x{grid[1]} tokens of them; set model.patch_size=1"
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


def check_training(cfg: DictConfig, spec: ModelSpec) -> None:
    """Raise ConfigError or ModelError where recipe, metric or model do not fit: before anything is written or started over."""
    target = spec.data["info"]["target"]
    metric_for(target, cfg.get("metric"))
    if build_recipe(cfg).class_weights != "none" and not target_kind(target).classes:
        raise ConfigError(f"optim.class_weights={cfg.optim.class_weights} needs data with classes; {cfg.data.name} has none")
    with torch.device("meta"):  # no memory, no time
        spec.build(backend=cfg.backend)


class TrainingState:
    """What a run needs to continue bit for bit: weights, optimizers, averages and loss scale, kept in checkpoint.pt.

    `run` is the digest of the run that it belongs to. `train_s` is how many seconds the saved epochs took, over all calls.
    """

    def __init__(
        self,
        path: Path,
        spec: ModelSpec,
        trainer: Trainer,
        *,
        run: str,
        alpha_optimizer: torch.optim.Optimizer | None = None,
        best: Best | None = None,
        extra: dict | None = None,
    ) -> None:
        self.path, self.spec, self.run, self.extra = path, spec, run, extra or {}
        self.train_s, self.since = 0.0, time.perf_counter()
        self.parts = {"model": trainer.model, "optimizer": trainer.optimizer, "scaler": trainer.scaler}
        if trainer.ema is not None:
            self.parts["ema"] = trainer.ema
        if alpha_optimizer is not None:
            self.parts["alpha_optimizer"] = alpha_optimizer
        if best is not None:
            self.parts["best"] = best

    def save(self, epochs_done: int, **more: object) -> None:
        """Write the state after `epochs_done` epochs."""
        now = time.perf_counter()
        self.train_s, self.since = self.train_s + now - self.since, now
        state = {"train_s": self.train_s} | {name: part.state_dict() for name, part in self.parts.items()}
        head = {"spec": asdict(self.spec), "digest": self.run, "epoch": epochs_done}
        save_checkpoint(self.path, head | state | self.extra | more)

    def restore(self) -> int:
        """Load the state if there is one and return the number of epochs done.

        Raises CheckpointError where it is of another run or cannot be continued.
        """
        self.since = time.perf_counter()
        if not self.path.exists():
            return 0
        state = load_checkpoint(self.path)
        if not ModelSpec.from_dict(state["spec"], source=str(self.path)).agrees_with(self.spec):
            raise CheckpointError(f"{self.path}: a checkpoint of another model or other directions than this run's")
        if (bad := unfinite_weights(state["model"])) is not None:
            raise CheckpointError(
                f"{self.path}: its weights are not finite ({bad}); start over with overwrite=true and a lower optim.lr"
            )
        if state.get("digest", self.run) != self.run:  # those of version 0.1.0 say it for searches only
            raise CheckpointError(
                f"{self.path}: a checkpoint of another run (another seed or other settings); choose another run_dir=,"
                " or overwrite=true to start over"
            )
        try:
            for name, part in self.parts.items():
                if isinstance(part, torch.optim.Optimizer):
                    load_optimizer(part, state[name])
                elif name in state or name != "best":  # which version 0.1.0 did not keep
                    part.load_state_dict(state[name])
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"{self.path}: not a state that this run can continue from ({name}: {error})") from error
        self.train_s = state.get("train_s", 0.0)
        return state["epoch"]
