"""The checks of a training before anything of it is kept: losses, weights and averages are finite, or it ends with advice."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lmsearch.data import Batch
from lmsearch.engine.distributed import World
from lmsearch.engine.finite import (
    ALPHAS,
    SUSPECT,
    Spoilt,
    TrainingDiverged,
    averages_of,
    largest,
    several,
    unfinite,
    weights_of,
)
from lmsearch.engine.objectives import Objective
from lmsearch.engine.precision import Precision
from lmsearch.engine.seen import Seen


class Checked(Protocol):
    """What is checked: a Trainer."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    precision: Precision
    clip_grad: float | None
    ema: AveragedModel | None
    world: World
    seen: Seen


def check_so_far(trainer: Checked, *, epoch: int) -> None:
    """Raise TrainingDiverged unless losses and weights are finite in the middle of an epoch."""
    if trainer.seen.steps:
        check_losses(trainer, epoch=epoch)
    check_weights(trainer, None, epoch=epoch)


def check_losses(trainer: Checked, *, epoch: int) -> None:
    """Raise TrainingDiverged, naming the first step of all processes that has one, where a loss of the epoch is not finite.

    It names the samples as well, where this call has seen them.
    """
    if not trainer.seen.steps:
        raise TrainingDiverged(f"no step of epoch {epoch + 1} has a finite loss and gradient; {advice(trainer)}")
    losses = torch.stack([step.losses.mean().cpu() for step in trainer.seen.steps])
    trainer.world.mean_([losses])
    if not torch.isfinite(losses).all():
        bad = int((~torch.isfinite(losses)).nonzero()[0])
        where = f"step {bad + 1} of {len(losses)} of epoch {epoch + 1}"
        own, spoilt = trainer.seen.samples.get(bad), None
        if own is not None:
            spoilt = Spoilt(epoch, bad, spoilt_samples(trainer, trainer.seen.steps[bad].losses, own))
            where += f" (samples {spoilt.first})"
        raise TrainingDiverged(f"the training loss became {losses[bad].item()} in {where}; {advice(trainer)}", spoilt=spoilt)


def spoilt_samples(trainer: Checked, losses: Tensor, samples: Tensor) -> tuple[int, ...]:
    """Return which samples (n,) of a step, of all processes, have losses (n,) that are not finite; all where none has."""
    losses, samples = trainer.world.gather(losses.detach().cpu()), trainer.world.gather(samples)
    bad = ~torch.isfinite(losses)
    return tuple(sorted((samples[bad] if bad.any() else samples).tolist()))


def check_weights(trainer: Checked, batch: Batch | None, *, epoch: int) -> None:
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


def advice(trainer: Checked) -> str:
    """Return what to lower where a training diverged, and what happens to the epoch."""
    clip = "set optim.clip_grad" if trainer.clip_grad is None else f"optim.clip_grad ({trainer.clip_grad:g})"
    lr = trainer.optimizer.param_groups[0]["lr"]
    return f"lower optim.lr ({lr:.3g} there) or {clip}{or_precise(trainer.precision)}; this epoch is not saved"


def or_precise(precision: Precision) -> str:
    """Return the advice to compute in fp32, where that is not done already."""
    return "" if precision.name == "fp32" else f", or take precision=fp32 (now {precision.name})"
