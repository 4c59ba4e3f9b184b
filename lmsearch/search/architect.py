"""How alphas learn: on the weights' own batches (single level, LocalMamba) or on held-out ones (bilevel, DARTS).

An architect is a hook of the training step (lmsearch.engine.train.StepHook). Alphas have an optimizer of their own, with a
weight decay of their own (0 unless asked for).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lmsearch.engine.objective import Objective
from lmsearch.engine.train import Batch, Precision
from lmsearch.errors import ConfigError
from lmsearch.search.supernet import arch_parameters, weight_parameters

ARCHITECTS = ("single", "bilevel")
ORDERS = (1, 2)


def alpha_optimizer(
    module: nn.Module, *, lr: float, betas: Sequence[float], weight_decay: float
) -> torch.optim.Optimizer:
    """Adam on the alphas alone."""
    return torch.optim.AdamW(arch_parameters(module), lr=lr, betas=tuple(betas), weight_decay=weight_decay)


@dataclass
class SingleLevel:
    """Alphas take one step with every step of the weights, on the same loss and batch; none before `warmup_epochs`."""

    optimizer: torch.optim.Optimizer
    precision: Precision
    warmup_epochs: int = 0
    epoch: int = field(default=0, init=False)

    def before_step(self, batch: Batch, *, epoch: int, step: int, lr: float) -> None:
        """Clear the alphas' gradients, which the weights' backward pass is about to fill."""
        self.epoch = epoch
        self.optimizer.zero_grad(set_to_none=True)

    def after_backward(self) -> None:
        """Move the alphas."""
        if self.epoch >= self.warmup_epochs:
            self.precision.scaler.step(self.optimizer)


@dataclass
class Bilevel:
    """Alphas take one step on a held-out batch before every step of the weights (DARTS, arXiv 1806.09055).

    order 1 takes the weights as they are; order 2 looks one weights' step of size lr ahead and adds the second-order term
    -lr * (grad_a L_train(w+) - grad_a L_train(w-)) / 2R with w+- = w +- R grad_w' L_val and R = 0.01 / |grad_w' L_val|
    (paper eq. 7 and 8, the look-ahead step being plain gradient descent).
    """

    module: nn.Module
    loader: object  # the alphas' TrainLoader: set_epoch(epoch) and iteration
    objective: Objective
    optimizer: torch.optim.Optimizer
    precision: Precision
    order: int = 1
    warmup_epochs: int = 0
    batches: Iterator[Batch] = field(default=iter(()), init=False)
    rounds: int = field(default=0, init=False)

    def before_step(self, batch: Batch, *, epoch: int, step: int, lr: float) -> None:
        """Move the alphas by their gradient on the next held-out batch."""
        if epoch < self.warmup_epochs:
            return
        held_out = self.precision.to_device(self._next(epoch, step))
        gradients = self._first_order(held_out) if self.order == 1 else self._second_order(batch, held_out, lr)
        for alpha, gradient in zip(arch_parameters(self.module), gradients, strict=True):
            alpha.grad = gradient
        self.optimizer.step()

    def after_backward(self) -> None:
        """Nothing: the weights' loss does not move the alphas."""

    def _next(self, epoch: int, step: int) -> Batch:
        """Return the held-out batch of this step; a shorter held-out split starts over, shuffled anew."""
        if step == 0:
            self.rounds, self.batches = 0, iter(())
        batch = next(self.batches, None)
        if batch is None:
            self.loader.set_epoch(epoch * 1000 + self.rounds)
            self.rounds += 1
            self.batches = iter(self.loader)
            batch = next(self.batches)
        return batch

    def _loss(self, batch: Batch) -> Tensor:
        """Mean loss of `batch`. Every call draws the same random numbers (drop path), so that differences are not noise."""
        images, targets = batch
        with torch.random.fork_rng(), self.precision.autocast():
            outputs = self.module(images)
        return self.objective.losses(outputs, targets).mean()

    def _first_order(self, held_out: Batch) -> Sequence[Tensor]:
        return torch.autograd.grad(self._loss(held_out), arch_parameters(self.module))

    def _second_order(self, batch: Batch, held_out: Batch, lr: float) -> list[Tensor]:
        alphas = arch_parameters(self.module)
        weights = [p for _, p in weight_parameters(self.module)]
        saved = [w.detach().clone() for w in weights]
        step = torch.autograd.grad(self._loss(batch), weights, allow_unused=True)
        step = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, step, strict=True)]
        _move(weights, saved, step, -lr)
        gradients = torch.autograd.grad(self._loss(held_out), alphas + weights, allow_unused=True)
        first = list(gradients[: len(alphas)])
        ahead = [
            torch.zeros_like(w) if g is None else g for w, g in zip(weights, gradients[len(alphas) :], strict=True)
        ]
        radius = 0.01 / torch.sqrt(sum(g.square().sum() for g in ahead)).clamp_min(1e-12)
        _move(weights, saved, ahead, radius)
        plus = torch.autograd.grad(self._loss(batch), alphas)
        _move(weights, saved, ahead, -radius)
        minus = torch.autograd.grad(self._loss(batch), alphas)
        _move(weights, saved, ahead, 0.0)
        return [g - lr * (p - m) / (2 * radius) for g, p, m in zip(first, plus, minus, strict=True)]


@torch.no_grad()
def _move(
    weights: Sequence[Tensor], start: Sequence[Tensor], direction: Sequence[Tensor], size: float | Tensor
) -> None:
    """Set weights = start + size * direction, in place."""
    for w, s, d in zip(weights, start, direction, strict=True):
        w.copy_(s + size * d)


def build_architect(
    name: str,
    module: nn.Module,
    loader: object,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    *,
    order: int,
    warmup_epochs: int,
) -> SingleLevel | Bilevel:
    """Return the architect `name` ("single" or "bilevel"); `order` (1 or 2) concerns bilevel only."""
    if name not in ARCHITECTS:
        raise ConfigError(f"search.architect={name!r} is not accepted; accepted: {', '.join(ARCHITECTS)}")
    if order not in ORDERS:
        raise ConfigError(f"search.order={order!r} is not accepted; accepted: 1, 2")
    if name == "single":
        return SingleLevel(optimizer, precision, warmup_epochs)
    return Bilevel(module, loader, objective, optimizer, precision, order, warmup_epochs)
