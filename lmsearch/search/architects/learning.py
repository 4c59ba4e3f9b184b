"""How alphas learn: on the weights' own batches (single level, LocalMamba), on held-out ones (bilevel, DARTS), or on both.

An architect is a hook of the training step (lmsearch.engine.train.StepHook). It sets the policy's draw of the step, computes
the alphas' gradient and moves them; how they move is the alphas' optimizer (alpha_update.py). kinds.py lists them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from lmsearch.data.batch import Batch
from lmsearch.data.info import Loader
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.objectives import Objective
from lmsearch.engine.randomness import by_sample
from lmsearch.engine.train import Precision
from lmsearch.search.supernet.network import arch_parameters, weight_parameters
from lmsearch.search.supernet.policy import BranchPolicy, Schedule

MOST_TURNS = 1000  # of the held-out split in one epoch, before its orders are those of the next epoch


@dataclass(frozen=True)
class Timing:
    """Where a step stands in the search, and when alphas may move: not in the first `warmup_epochs`."""

    steps_per_epoch: int
    epochs: int
    warmup_epochs: int = 0

    def progress(self, epoch: int, step: int) -> float:
        """Return the share of the search that is done before this step, in [0, 1)."""
        return (epoch * self.steps_per_epoch + step) / (self.epochs * self.steps_per_epoch)

    def warm(self, epoch: int) -> bool:
        """True once alphas move."""
        return epoch >= self.warmup_epochs


@dataclass
class Frozen:
    """Alphas do not learn: the policy alone decides what runs (single-path training of shared weights)."""

    policy: BranchPolicy
    timing: Timing

    def before_step(self, batch: Batch, *, epoch: int, step: int, lr: float) -> None:
        """Draw what this step runs."""
        self.policy.begin_step(epoch=epoch, step=step, progress=self.timing.progress(epoch, step))

    def passes_of_step(self) -> int:
        """Return 1: the batch passes through the supernet once."""
        return 1

    def begin_pass(self, number: int) -> None:
        """Nothing: the draw of the step is that of its only pass."""

    def after_backward(self, scaler: GradScaler) -> None:
        """Nothing."""


@dataclass
class SingleLevel(Frozen):
    """Alphas take one step with every step of the weights, on the same loss and batch.

    With `follows_lr` their learning rate is that of the weights at each step, as where both are in one optimizer.
    """

    optimizer: torch.optim.Optimizer
    precision: Precision
    decay: Schedule = Schedule(0.0, 0.0)  # weight decay of the alphas over the search
    follows_lr: bool = False
    epoch: int = field(default=0, init=False)

    def before_step(self, batch: Batch, *, epoch: int, step: int, lr: float) -> None:
        """Draw, and clear the alphas' gradients, which the weights' backward pass is about to fill."""
        super().before_step(batch, epoch=epoch, step=step, lr=lr)
        self.epoch = epoch
        for group in self.optimizer.param_groups:
            group["weight_decay"] = self.decay(self.timing.progress(epoch, step))
            if self.follows_lr:
                group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)

    def after_backward(self, scaler: GradScaler) -> None:
        """Move the alphas."""
        if self.timing.warm(self.epoch):
            add_penalty(self.policy, scale=scaler.get_scale())
            scaler.step(self.optimizer)


@dataclass
class OnHoldout(SingleLevel):
    """What bilevel and mixed share: the alphas' gradient on a held-out batch, which follows from epoch and step."""

    module: nn.Module = field(kw_only=True)
    loader: Loader = field(kw_only=True)  # of the alphas
    objective: Objective = field(kw_only=True)
    world: World = field(default=SINGLE, kw_only=True)
    batches: Iterator[Batch] = field(default=iter(()), init=False)
    due: tuple[int, int] | None = field(default=None, init=False)  # epoch and step whose batch `batches` gives next

    def held_batch(self, epoch: int, step: int) -> Batch:
        """Return the held-out batch of this step, whichever were taken before.

        A shorter held-out split starts over, shuffled anew. So does a user's own that gives fewer batches than it tells.
        """
        turn, place = divmod(step, len(self.loader))
        if place == 0 or self.due != (epoch, step):
            self.begin_turn(epoch, turn, place)
        self.due = (epoch, step + 1)
        batch = next(self.batches, None)
        if batch is None:
            self.begin_turn(epoch, turn + 1, 0)
            batch, self.due = next(self.batches), None
        return self.precision.to_device(batch)

    def begin_turn(self, epoch: int, turn: int, place: int) -> None:
        """Open the held-out split, as it is shuffled for one of its turns in an epoch, at a place of it."""
        self.loader.set_epoch(epoch * MOST_TURNS + turn, start_batch=place)
        self.batches = iter(self.loader)

    def gradients(self, batch: Batch, wanted: Sequence[Tensor]) -> list[Tensor | None]:
        """Gradient of the mean loss of `batch` over all processes, part after part; None where a tensor takes no part.

        Every call draws the same random numbers, so that differences are not noise.
        """
        total: list[Tensor | None] = [None] * len(wanted)
        device = self.precision.device
        for part, share in self.precision.parts(batch):
            own = by_sample(part, seed=self.policy.seed, epoch=self.epoch)
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), own, self.precision.autocast():
                outputs = self.module(part.inputs)
            loss = self.objective.losses(outputs, part.targets).mean() * (share * part.weight)
            found = torch.autograd.grad(loss, wanted, allow_unused=True)
            total = [_sum(one, other) for one, other in zip(total, found, strict=True)]
        self.world.mean_(gradient for gradient in total if gradient is not None)
        return total

    def first_order(self, holdout: Batch) -> Sequence[Tensor | None]:
        """Gradient of the held-out loss in the alphas, the weights as they are."""
        return self.gradients(holdout, arch_parameters(self.module))


@dataclass
class Bilevel(OnHoldout):
    """Alphas take one step on a held-out batch before every step of the weights (DARTS, arXiv 1806.09055).

    order 1 takes the weights as they are; order 2 looks one weights' step of size lr ahead and adds the second-order term
    -lr * (grad_a L_train(w+) - grad_a L_train(w-)) / 2R with w+- = w +- R grad_w' L_val and R = 0.01 / |grad_w' L_val|
    (paper eq. 7 and 8, the look-ahead step being plain gradient descent).
    """

    order: int = field(default=1, kw_only=True)

    def before_step(self, batch: Batch, *, epoch: int, step: int, lr: float) -> None:
        """Move the alphas by their gradient on the held-out batch of this step."""
        super().before_step(batch, epoch=epoch, step=step, lr=lr)
        if not self.timing.warm(epoch):
            return
        holdout = self.held_batch(epoch, step)
        gradients = self.first_order(holdout) if self.order == 1 else self.second_order(batch, holdout, lr)
        for alpha, gradient in zip(arch_parameters(self.module), gradients, strict=True):
            alpha.grad = gradient
        add_penalty(self.policy, scale=1.0)
        self.optimizer.step()

    def after_backward(self, scaler: GradScaler) -> None:
        """Nothing: the weights' loss does not move the alphas."""

    def second_order(self, batch: Batch, holdout: Batch, lr: float) -> Sequence[Tensor | None]:
        """Gradient of the held-out loss after one step of the weights."""
        alphas = arch_parameters(self.module)
        weights = [p for _, p in weight_parameters(self.module)]
        saved = [w.detach().clone() for w in weights]
        step = _filled(self.gradients(batch, weights), weights)
        _move(weights, saved, step, -lr)
        gradients = self.gradients(holdout, alphas + weights)
        first, ahead = _filled(gradients[: len(alphas)], alphas), _filled(gradients[len(alphas) :], weights)
        radius = 0.01 / torch.sqrt(sum((g.square().sum() for g in ahead), start=ahead[0].new_zeros(()))).clamp_min(1e-12)
        _move(weights, saved, ahead, radius)
        plus = _filled(self.gradients(batch, alphas), alphas)
        _move(weights, saved, ahead, -radius)
        minus = _filled(self.gradients(batch, alphas), alphas)
        _restore(weights, saved)
        return [g - lr * (p - m) / (2 * radius) for g, p, m in zip(first, plus, minus, strict=True)]


@dataclass
class Mixed(OnHoldout):
    """Alphas follow the gradient on the weights' batch plus `weight` times that on a held-out one (MiLeNAS, 2003.12238)."""

    weight: float = field(default=1.0, kw_only=True)
    held: Sequence[Tensor | None] = field(default=(), init=False)

    def before_step(self, batch: Batch, *, epoch: int, step: int, lr: float) -> None:
        """Compute the held-out part before the weights move."""
        super().before_step(batch, epoch=epoch, step=step, lr=lr)
        self.held = self.first_order(self.held_batch(epoch, step)) if self.timing.warm(epoch) else ()

    def after_backward(self, scaler: GradScaler) -> None:
        """Move the alphas by the sum of both gradients."""
        factor = self.weight * scaler.get_scale()
        if self.held:
            for alpha, gradient in zip(arch_parameters(self.module), self.held, strict=True):
                if gradient is not None:
                    add_gradient(alpha, gradient, factor=factor)
        super().after_backward(scaler)


def add_penalty(policy: BranchPolicy, *, scale: float) -> None:
    """Add the gradient of the relaxation's penalty to the alphas' gradients, which carry the loss scale `scale`."""
    penalty = policy.penalty()
    if penalty is None:
        return
    alphas = arch_parameters(policy.module)
    for alpha, gradient in zip(alphas, torch.autograd.grad(penalty, alphas), strict=True):
        add_gradient(alpha, gradient, factor=scale)


def add_gradient(alpha: Tensor, gradient: Tensor, *, factor: float) -> None:
    """Add `factor` times a gradient to that of an alpha."""
    if alpha.grad is None:
        alpha.grad = factor * gradient
    else:
        alpha.grad.add_(gradient, alpha=factor)


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Return the sum of two gradients, of which None is zero."""
    return one if other is None else other if one is None else one + other


def _filled(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Zeros where a parameter took no part."""
    return [torch.zeros_like(w) if g is None else g for w, g in zip(like, gradients, strict=True)]


@torch.no_grad()
def _restore(weights: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    """Set weights to what they were: a direction that is not finite leaves no trace."""
    for w, s in zip(weights, saved, strict=True):
        w.copy_(s)


@torch.no_grad()
def _move(weights: Sequence[Tensor], start: Sequence[Tensor], direction: Sequence[Tensor], size: float | Tensor) -> None:
    """Set weights = start + size * direction, in place."""
    for w, s, d in zip(weights, start, direction, strict=True):
        w.copy_(s + size * d)
