"""One epoch of training, and evaluation: the loop that every task shares.

Shapes: images (B, C, h, w); targets (B,) class indices, (B, classes) soft, or dense (B, L, 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from lmsearch.data import Batch
from lmsearch.data.info import Loader
from lmsearch.data.order import cut, paired, sharers
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.finite import (
    ALPHAS,
    SUSPECT,
    TrainingDiverged,
    averages_of,
    largest,
    several,
    unfinite,
    weights_of,
)
from lmsearch.engine.objectives import Objective, Scores
from lmsearch.engine.optim import set_lr
from lmsearch.engine.progress import evaluated
from lmsearch.engine.randomness import by_sample, generator, key
from lmsearch.engine.state import Stateful

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
Mix = Callable[[Batch, torch.Generator], Batch]


class StepHook(Protocol):
    """What may act inside every training step; the architect of a search is one."""

    def before_step(self, batch: Batch, *, epoch: int, step: int, lr: float) -> None:
        """Called with the weights' batch, before the weights' gradients are computed."""

    def passes_of_step(self) -> int:
        """Return how often the batch passes through the model in this step; the gradient is the mean over the passes."""

    def begin_pass(self, number: int) -> None:
        """Called before each pass, counted from 0."""

    def after_backward(self, scaler: torch.amp.GradScaler) -> None:
        """Called when every gradient of the weights' loss is there, before the weights move.

        The gradients carry the loss scale of `scaler`.
        """


@dataclass
class Seen:
    """The scores of the steps that an epoch has done; a part of the training state, since an epoch may be cut."""

    steps: list[Scores] = field(default_factory=list)

    def begin(self, done: int) -> None:
        """Begin an epoch of which `done` steps are done; of a state that knows nothing of them, they count as not seen."""
        if done == 0:
            self.steps = []

    def take(self) -> list[Scores]:
        """Return the scores of the steps, on the CPU, and forget them."""
        steps, self.steps = self.steps, []
        return [step.cpu() for step in steps]

    def state_dict(self) -> dict[str, Any]:
        """Return losses, scores and classes (n,) of all samples, and how many samples each step had."""
        if not self.steps:
            return {"sizes": []}
        whole = Scores.concatenate(step.cpu() for step in self.steps)
        state = {"sizes": [len(step.losses) for step in self.steps], "losses": whole.losses, "scores": whole.scores}
        return state if whole.classes is None else state | {"classes": whole.classes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        sizes: list[int] = state["sizes"]
        columns = [state[name].split(sizes) for name in ("losses", "scores", "classes") if name in state]
        self.steps = [Scores(*values) for values in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Precision:
    """How one device computes: in fp32, bf16 or fp16 (with loss scaling), and on how many samples at a time (None: all).

    With `grad_checkpointing` the backward pass computes the inside of every mixer again, which then is not kept.
    """

    device: torch.device
    name: str = "fp32"
    micro_batch: int | None = None
    grad_checkpointing: bool = False

    def scaler(self) -> torch.amp.GradScaler:
        """Return a new loss scaler: on for fp16, one that does nothing otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which forward passes run."""
        dtype = AUTOCAST[self.name]
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to the device."""
        return batch.to(self.device)

    def parts(self, batch: Batch, *, in_order: bool = False) -> Iterator[tuple[Batch, float]]:
        """Yield a batch in parts of at most `micro_batch` samples, each with its share of them.

        What mixup mixes stays in one part, where parts are of even size; `in_order` samples follow each other as in the batch.
        The mean over a batch is the sum of the parts' means times their shares, so gradients of the parts add up.
        """
        size = len(batch.inputs)
        if self.micro_batch is None or size <= self.micro_batch:
            yield batch, 1.0
            return
        for places in cut(np.arange(size) if in_order else paired(size), self.micro_batch):
            yield batch.take(torch.from_numpy(places)), len(places) / size


@dataclass
class Trainer:
    """What stays the same from step to step of a training run; `schedule` maps the global step to a learning rate.

    Every trainer has a loss scaler of its own: what another run did before leaves no trace in this one.
    """

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
    world: World = SINGLE
    scaler: torch.amp.GradScaler = field(init=False)
    seen: Seen = field(default_factory=Seen, init=False)  # of the epoch that runs

    def __post_init__(self) -> None:
        self.scaler = self.precision.scaler()

    @property
    def result(self) -> nn.Module:
        """What the training is for: the averaged weights where there are some, else the weights."""
        return self.model if self.ema is None else self.ema.module

    def step(self, batch: Batch, *, epoch: int, index: int, lr: float) -> Scores:
        """One optimizer step on `batch`; randomness is keyed by (seed, epoch, index), and by sample for drop path.

        Returns the scores of its first pass.
        """
        batch, seen = self.begin(batch, epoch=epoch, index=index, lr=lr), []
        for part, share, first in self.passes(batch):
            with by_sample(part, seed=self.seed, epoch=epoch), self.precision.autocast():
                outputs = self.model(part.inputs)
            losses = self.objective.losses(outputs, part.targets)
            self.scaler.scale(losses.mean() * share).backward()
            if first:
                scores = self.objective.scores(outputs.detach(), part.targets)
                seen.append(Scores(losses.detach(), scores, self.objective.classes(part.targets)))
        self.move()
        return Scores.concatenate(seen)

    def begin(self, batch: Batch, *, epoch: int, index: int, lr: float) -> Batch:
        """Make ready for a step, and return its batch on the device, mixed."""
        batch = self.precision.to_device(batch)
        if self.mix is not None:
            batch = self.mix(batch, generator(self.seed, "mix", epoch, index))
        torch.manual_seed(key(self.seed, "step", epoch, index))
        if self.hook is not None:
            self.hook.before_step(batch, epoch=epoch, step=index, lr=lr)
        set_lr(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        return batch

    def passes(self, batch: Batch) -> Iterator[tuple[Batch, float, bool]]:
        """Yield what a step passes through the model: a part of the batch, its share of it, and whether the pass is the first.

        A pass takes the batch in the parts of `precision`. Gradients add up, and in the end they are the mean over the passes.
        """
        count = 1 if self.hook is None else self.hook.passes_of_step()
        for number in range(count):
            if self.hook is not None:
                self.hook.begin_pass(number)
            for part, share in self.precision.parts(batch):
                yield part, share, number == 0
        if count > 1:
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad.div_(count)

    def move(self) -> None:
        """Let the gradients of a step move alphas, weights and averages."""
        self.world.mean_(p.grad for p in self.model.parameters() if p.grad is not None)
        if self.hook is not None:
            self.hook.after_backward(self.scaler)
        if self.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters(), self.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.model)

    def parts(self) -> dict[str, Stateful]:
        """Return what the training remembers from step to step, by name."""
        parts: dict[str, Stateful] = {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}
        return parts | {"seen": self.seen} | ({} if self.ema is None else {"ema": self.ema})

    def parameters(self) -> list[nn.Parameter]:
        """Return what the optimizer moves."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def train_one_epoch(
    trainer: Trainer, loader: Loader, *, epoch: int, on_step: Callable[[int, Scores], None], first_step: int = 0
) -> Scores:
    """Train over `loader` once; `on_step(index, scores)` reports every step of this process.

    Steps before `first_step` are done: their scores are what the trainer has seen. Returns the scores of all training samples
    that the processes have seen in the epoch.

    Raises TrainingDiverged where a loss of the epoch is not finite, or what it leaves behind is not.
    """
    trainer.model.train()
    trainer.seen.begin(first_step)
    loader.set_epoch(epoch, start_batch=first_step)
    batch = None
    for index, batch in enumerate(loader, start=first_step):
        lr = trainer.schedule(epoch * len(loader) + index)
        scores = trainer.step(batch, epoch=epoch, index=index, lr=lr)
        trainer.seen.steps.append(scores)
        on_step(index, scores)
    check_losses(trainer, epoch=epoch)
    check_weights(trainer, batch, epoch=epoch)
    return trainer.objective.of_set(trainer.seen.take(), world=trainer.world)


def check_so_far(trainer: Trainer, *, epoch: int) -> None:
    """Raise TrainingDiverged unless losses and weights are finite in the middle of an epoch."""
    check_losses(trainer, epoch=epoch)
    check_weights(trainer, None, epoch=epoch)


def check_losses(trainer: Trainer, *, epoch: int) -> None:
    """Raise TrainingDiverged, naming the first step of all processes that has one, where a loss of the epoch is not finite."""
    losses = torch.stack([step.losses.mean().cpu() for step in trainer.seen.steps])
    trainer.world.mean_([losses])
    if not torch.isfinite(losses).all():
        bad = int((~torch.isfinite(losses)).nonzero()[0])
        where = f"step {bad + 1} of {len(losses)} of epoch {epoch + 1}"
        raise TrainingDiverged(f"the training loss became {losses[bad].item()} in {where}; {advice(trainer)}")


def check_weights(trainer: Trainer, batch: Batch | None, *, epoch: int) -> None:
    """Raise TrainingDiverged unless weights and averages are finite after a step: the losses until then do not tell of it.

    Large weights are tried on `batch`, that of the last step, as well.
    """
    weights, averages = [*weights_of(trainer.model)], [*averages_of(trainer.optimizer)]
    averages += [] if trainer.ema is None else weights_of(trainer.ema.module)
    size = largest(weights)
    if not (math.isfinite(size) and math.isfinite(largest(averages))):
        bad = unfinite([*weights, *averages])
        lower = "lower search.alpha_lr" if bad and all(name.endswith(ALPHAS) for name in bad) else advice(trainer)
        raise TrainingDiverged(f"not all weights are finite after epoch {epoch + 1} ({several(bad)}); {lower}")
    if size > SUSPECT and batch is not None:
        batch, losses = trainer.precision.to_device(batch), []
        for part, _ in trainer.precision.parts(batch):
            with torch.no_grad(), trainer.precision.autocast():
                losses.append(trainer.objective.losses(trainer.model(part.inputs), part.targets))
        if not torch.isfinite(trainer.world.gather(torch.cat(losses))).all():
            raise TrainingDiverged(f"weights grew to {size:.3g} in epoch {epoch + 1}, and the loss with them; {advice(trainer)}")


def advice(trainer: Trainer) -> str:
    """Return what to lower where a training diverged, and what happens to the epoch."""
    clip = "set optim.clip_grad" if trainer.clip_grad is None else f"optim.clip_grad ({trainer.clip_grad:g})"
    lr = trainer.optimizer.param_groups[0]["lr"]
    return f"lower optim.lr ({lr:.3g} there) or {clip}{or_precise(trainer.precision)}; this epoch is not saved"


def or_precise(precision: Precision) -> str:
    """Return the advice to compute in fp32, where that is not done already."""
    return "" if precision.name == "fp32" else f", or take precision=fp32 (now {precision.name})"


def evaluate(
    model: nn.Module, loader: Iterable[Batch], objective: Objective, precision: Precision, *, what: str = "held-out"
) -> Scores:
    """Evaluate `model` on every sample of `loader`, in its order; each of the processes that share it returns the scores of all.

    Raises TrainingDiverged, naming the samples as `what`, where a loss is not finite: scores of such outputs mean nothing.
    """
    return evaluate_each(model, loader, objective, precision, lambda: (nullcontext(),), what=what)[0]


@torch.no_grad()
def evaluate_each(
    model: nn.Module,
    loader: Iterable[Batch],
    objective: Objective,
    precision: Precision,
    ways: Callable[[], Iterable[AbstractContextManager[object]]],
    *,
    what: str = "held-out",
) -> list[Scores]:
    """Evaluate `model` as `evaluate` does inside each of the contexts that `ways()` yields: anew, and alike, for every batch."""
    model.eval()
    scored: list[list[Scores]] = []
    for part in (part for batch in loader for part, _ in precision.parts(precision.to_device(batch), in_order=True)):
        for number, way in enumerate(ways()):
            with way, precision.autocast():
                outputs = model(part.inputs)
            if number == len(scored):
                scored.append([])
            scored[number].append(objective.evaluation(outputs, part.targets).cpu())
            evaluated(len(part.inputs))
    found = [objective.of_set(mine, world=sharers(loader)) for mine in scored]
    for scores in found:
        if bad := int((~torch.isfinite(scores.losses)).sum()):
            lower = f"in training, lower optim.lr or optim.clip_grad{or_precise(precision)}"
            raise TrainingDiverged(f"{bad} of {len(scores.losses)} {what} losses are not finite; {lower}")
    return found
