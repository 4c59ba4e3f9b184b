"""One epoch of training, and evaluation: the loop that every task shares.

Shapes: images (B, C, h, w); targets (B,) class indices, (B, classes) soft, or dense (B, L, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lmsearch.engine.objective import Objective, Scores
from lmsearch.engine.optim import set_lr
from lmsearch.engine.randomness import generator, key
from lmsearch.errors import LmsearchError

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
Batch = tuple[Tensor, Tensor]
Mix = Callable[[Tensor, Tensor, torch.Generator], Batch]


class TrainingDiverged(LmsearchError):
    """The loss is no longer finite."""


class StepHook(Protocol):
    """What may act inside every training step; the architect of a search is one."""

    def before_step(self, batch: Batch, *, epoch: int, step: int, lr: float) -> None:
        """Called with the weights' batch, before the weights' gradients are computed."""

    def after_backward(self) -> None:
        """Called when every gradient of the weights' loss is there, before the weights move."""


@dataclass(frozen=True)
class Precision:
    """Numeric format of the forward pass on one device: fp32, bf16 or fp16 (with loss scaling)."""

    device: torch.device
    name: str = "fp32"
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")
        object.__setattr__(self, "scaler", scaler)

    def autocast(self) -> AbstractContextManager:
        """Context in which forward passes run."""
        dtype = AUTOCAST[self.name]
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to the device."""
        return tuple(t.to(self.device, non_blocking=True) for t in batch)


@dataclass
class Trainer:
    """What stays the same from step to step of a training run; `schedule` maps the global step to a learning rate."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    schedule: Callable[[int], float]
    precision: Precision
    seed: int
    clip_grad: float | None = None
    mix: Mix | None = None
    ema: AveragedModel | None = None
    hook: StepHook | None = None

    def step(self, batch: Batch, *, epoch: int, index: int, lr: float) -> Scores:
        """One optimizer step on `batch`; randomness is keyed by (seed, epoch, index)."""
        images, targets = self.precision.to_device(batch)
        if self.mix is not None:
            images, targets = self.mix(images, targets, generator(self.seed, "mix", epoch, index))
        torch.manual_seed(key(self.seed, "step", epoch, index))
        if self.hook is not None:
            self.hook.before_step((images, targets), epoch=epoch, step=index, lr=lr)
        set_lr(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast():
            outputs = self.model(images)
        losses = self.objective.losses(outputs, targets)
        scaler = self.precision.scaler
        scaler.scale(losses.mean()).backward()
        if self.hook is not None:
            self.hook.after_backward()
        if self.clip_grad is not None:
            scaler.unscale_(self.optimizer)
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip_grad)
        scaler.step(self.optimizer)
        scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return Scores(losses.detach(), self.objective.scores(outputs.detach(), targets), self.objective.classes(targets))


def train_one_epoch(
    trainer: Trainer, loader: Iterable[Batch], *, epoch: int, on_step: Callable[[int, Scores], None]
) -> Scores:
    """Train over `loader` once; `on_step(index, scores)` reports every step. Returns the scores of all training samples seen.

    Raises TrainingDiverged when the epoch's mean loss is not finite.
    """
    trainer.model.train()
    loader.set_epoch(epoch)
    seen = []
    for index, batch in enumerate(loader):
        lr = trainer.schedule(epoch * len(loader) + index)
        seen.append(trainer.step(batch, epoch=epoch, index=index, lr=lr))
        on_step(index, seen[-1])
    scores = trainer.objective.of_set(seen)
    if not torch.isfinite(scores.losses.mean()):
        raise TrainingDiverged(
            f"the training loss became {scores.loss} in epoch {epoch + 1}; lower optim.lr or set optim.clip_grad"
        )
    return scores.cpu()


@torch.no_grad()
def evaluate(model: nn.Module, loader: Iterable[Batch], objective: Objective, precision: Precision) -> Scores:
    """Evaluate `model` on every sample of `loader`, in its order."""
    model.eval()
    parts = []
    for batch in loader:
        images, targets = precision.to_device(batch)
        with precision.autocast():
            outputs = model(images)
        parts.append(objective.evaluation(outputs, targets).cpu())
    return objective.of_set(parts)
