"""From a configuration to plain objects: data, model description, trainer. Below this folder nobody sees Hydra."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from lmsearch.data import DataInfo, Source, TrainLoader, build_source
from lmsearch.data.mixup import mixup_cutmix
from lmsearch.engine.checkpoint import ModelSpec, load_checkpoint, save_checkpoint
from lmsearch.engine.objective import Objective, classification, dense_regression
from lmsearch.engine.optim import Cosine, adamw, moving_average
from lmsearch.engine.train import Mix, Precision, StepHook, Trainer
from lmsearch.errors import CheckpointError, ConfigError
from lmsearch.models import DirectionalMixer, create_model
from lmsearch.scan_orders import Grid


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


def build_data(cfg: DictConfig) -> Source:
    """Return the data source of cfg.data."""
    options = plain(cfg.data)
    return build_source(options.pop("name"), **options)


def build_objective(info: DataInfo, *, label_smoothing: float = 0.0) -> Objective:
    """Return what the data asks for: one class per image, or one value per token."""
    return dense_regression() if info.target == "dense" else classification(label_smoothing)


def model_options(cfg: DictConfig, info: DataInfo) -> dict:
    """Return the options of create_model: those set in cfg.model, and image size, channels and classes from the data."""
    options = plain(cfg.model)
    options.pop("name")
    return options | {"img_size": list(info.img_size), "in_chans": info.in_chans, "num_classes": info.num_classes}


def model_spec(cfg: DictConfig, info: DataInfo, directions: tuple[tuple[str, ...], ...], *, merge: str) -> ModelSpec:
    """Return the description of the model that cfg.model names, with `directions`, for this data."""
    return ModelSpec(
        cfg.model.name, directions, merge, model_options(cfg, info), {"info": asdict(info), "source": plain(cfg.data)}
    )


def layer_grids(cfg: DictConfig, info: DataInfo) -> tuple[list[Grid], str]:
    """Return the token grid of every layer of the configured model on this data, and its window padding."""
    with torch.device("meta"):  # no memory, no time
        model = create_model(cfg.model.name, **model_options(cfg, info))
    padding = next(m.options.window_padding for m in model.modules() if isinstance(m, DirectionalMixer))
    return model.layer_grids(info.img_size), padding


def build_mix(cfg: DictConfig, info: DataInfo) -> Mix | None:
    """Return mixup and cutmix as configured, or None where both are off or targets are not classes."""
    optim = cfg.optim
    if info.target != "class" or optim.mix_prob == 0 or (optim.mixup == 0 and optim.cutmix == 0):
        return None

    def mix(
        images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return mixup_cutmix(
            images,
            targets,
            num_classes=info.num_classes,
            mixup_alpha=optim.mixup,
            cutmix_alpha=optim.cutmix,
            prob=optim.mix_prob,
            switch_prob=optim.mix_switch_prob,
            smoothing=optim.label_smoothing,
            generator=generator,
        )

    return mix


def build_trainer(
    cfg: DictConfig,
    model: nn.Module,
    named_parameters: list,
    loader: TrainLoader,
    info: DataInfo,
    precision: Precision,
    *,
    hook: StepHook | None = None,
) -> Trainer:
    """Return the trainer of `named_parameters` as cfg.optim describes."""
    optim, steps = cfg.optim, len(loader)
    schedule = Cosine(optim.lr, optim.min_lr, optim.warmup_lr, int(optim.warmup_epochs * steps), cfg.epochs * steps)
    optimizer = adamw(named_parameters, lr=optim.lr, weight_decay=optim.weight_decay, betas=optim.betas)
    ema = None if optim.ema_decay is None else moving_average(model, optim.ema_decay)
    objective = build_objective(info, label_smoothing=optim.label_smoothing)
    mix = build_mix(cfg, info)
    return Trainer(model, optimizer, objective, schedule, precision, cfg.seed, optim.clip_grad, mix, ema, hook)


class TrainingState:
    """What a run needs to continue bit for bit: weights, optimizers, averages and loss scale, kept in checkpoint.pt."""

    def __init__(
        self,
        path: Path,
        spec: ModelSpec,
        trainer: Trainer,
        *,
        alpha_optimizer: torch.optim.Optimizer | None = None,
        extra: dict | None = None,
    ) -> None:
        self.path, self.spec, self.extra = path, spec, extra or {}
        self.parts = {"model": trainer.model, "optimizer": trainer.optimizer, "scaler": trainer.precision.scaler}
        if trainer.ema is not None:
            self.parts["ema"] = trainer.ema
        if alpha_optimizer is not None:
            self.parts["alpha_optimizer"] = alpha_optimizer

    def save(self, epochs_done: int, **more: object) -> None:
        """Write the state after `epochs_done` epochs."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        save_checkpoint(self.path, {"spec": asdict(self.spec), "epoch": epochs_done} | state | self.extra | more)

    def restore(self) -> int:
        """Load the state if there is one and return the number of epochs done."""
        if not self.path.exists():
            return 0
        state = load_checkpoint(self.path)
        if ModelSpec.from_dict(state["spec"], source=str(self.path)) != self.spec:
            raise CheckpointError(f"{self.path}: a checkpoint of another model or other directions than this run's")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        return state["epoch"]
