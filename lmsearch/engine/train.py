"""One epoch of training, and evaluation: the loop that every task shares.

Shapes: images (B, C, h, w); targets (B,) class indices, (B, classes) soft, or dense (B, L, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from lmsearch.data import Batch, Loaders
from lmsearch.data.info import Loader
from lmsearch.data.order import of_one_kind, seen_by_all, sharers
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.divergence import advice, check_losses, check_weights, or_precise, spoilt_samples
from lmsearch.engine.finite import Spoilt, TrainingDiverged
from lmsearch.engine.nonfinite import Skips, all_finite
from lmsearch.engine.objectives import Objective, Scores
from lmsearch.engine.optim import set_lr
from lmsearch.engine.precision import Precision as Precision  # and for those who train
from lmsearch.engine.progress import evaluated
from lmsearch.engine.randomness import by_sample, generator, key
from lmsearch.engine.seen import Seen
from lmsearch.engine.state import Stateful
from lmsearch.errors import SourceError

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
    skips: Skips = field(default_factory=Skips)
    scaler: torch.amp.GradScaler = field(init=False)
    seen: Seen = field(default_factory=Seen, init=False)  # of the epoch that runs
    samples: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64), init=False)  # (n,) of the last step

    def __post_init__(self) -> None:
        self.scaler = self.precision.scaler()
        self.seen.world = self.world

    @property
    def result(self) -> nn.Module:
        """What the training is for: the averaged weights where there are some, else the weights."""
        return self.model if self.ema is None else self.ema.module

    def rate(self, step: int) -> float:
        """Return the learning rate of a global step."""
        return self.schedule(step) * self.skips.rate

    def step(self, batch: Batch, *, epoch: int, index: int, lr: float) -> Scores:
        """One optimizer step on `batch`; randomness is keyed by (seed, epoch, index), and by sample for drop path.

        Returns the scores of its first pass. A step that is not finite is left out where `skips` says so; raises TrainingDiverged
        where it is one too many.
        """
        undo = self.skips.remember() if self.skips.answer.leaves_out else None
        batch, seen, samples = self.begin(batch, epoch=epoch, index=index, lr=lr), [], []
        for part, share, first in self.passes(batch):
            with by_sample(part, seed=self.seed, epoch=epoch), self.precision.autocast():
                outputs = self.model(part.inputs)
            losses = self.objective.losses(outputs, part.targets)
            self.scaler.scale(losses.mean() * (share * part.weight)).backward()
            if first:
                scores = self.objective.scores(outputs.detach(), part.targets)
                seen.append(Scores(losses.detach(), scores, self.objective.classes(part.targets)))
                samples.append(part.indices)
        whole, self.samples = Scores.concatenate(seen), torch.cat(samples)
        self.world.mean_(p.grad for p in self.model.parameters() if p.grad is not None)
        if self.moves_alphas(whole, checked=undo is not None):
            self.move()
        elif undo is not None:
            undo()
            self.model.zero_grad(set_to_none=True)  # those of alphas too, which otherwise add up
            spoilt = Spoilt(epoch, index, spoilt_samples(self, whole.losses, self.samples))
            self.skips.leave_out(spoilt, advice(self))
        return whole

    def moves_alphas(self, scores: Scores, *, checked: bool) -> bool:
        """Let the hook move the alphas. `checked`: tell, alike in all processes, whether all is finite and weights may follow."""
        if checked and not self.is_finite(scores):
            return False
        if self.hook is not None:
            self.hook.after_backward(self.scaler)
        return not checked or self.scaler.is_enabled() or not self.world.any(not self.skips.alphas_are_finite())

    def is_finite(self, scores: Scores) -> bool:
        """Tell, alike in all processes, whether losses, gradients and alphas are finite; scaled gradients may overflow."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None and not self.scaler.is_enabled()]
        return not self.world.any(not all_finite([scores.losses, *gradients, *self.skips.living]))

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
            if gradients := [parameter.grad for parameter in self.parameters() if parameter.grad is not None]:
                torch._foreach_div_(gradients, count)

    def move(self) -> None:
        """Let the gradients of a step move weights and averages."""
        self.skips.in_a_row = 0
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
        return parts | {"seen": self.seen, "skips": self.skips} | ({} if self.ema is None else {"ema": self.ema})

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
        lr = trainer.rate(epoch * len(loader) + index)
        scores = trainer.step(batch, epoch=epoch, index=index, lr=lr)
        if trainer.skips.in_a_row == 0:  # else it was left out
            trainer.seen.add(scores, trainer.samples)
        on_step(index, scores)
    check_losses(trainer, epoch=epoch)
    check_weights(trainer, None if trainer.skips.in_a_row else batch, epoch=epoch)  # one that was left out tells nothing
    return trainer.objective.of_set(trainer.seen.take(), world=trainer.world)


def evaluate(
    model: nn.Module, loader: Iterable[Batch], objective: Objective, precision: Precision, *, what: str = "held-out"
) -> Scores:
    """Evaluate `model` on every sample of `loader`, in its order; each of the processes that share it returns the scores of all.

    Raises TrainingDiverged, naming the samples as `what`, where a loss is not finite: scores of such outputs mean nothing.
    Raises SourceError where no sample could be read.
    """
    found = evaluate_each(model, loader, objective, precision, lambda: (nullcontext(),), what=what)
    if not found:
        raise SourceError(f"none of the {what} samples can be read")
    return found[0]


def validate_and_test(model: nn.Module, loaders: Loaders, objective: Objective, precision: Precision) -> tuple[Scores, Scores]:
    """Evaluate `model` on the validation and on the test set as `evaluate` does, once where both are the same samples."""
    val = evaluate(model, loaders.val, objective, precision, what="validation")
    return val, val if loaders.test is loaders.val else evaluate(model, loaders.test, objective, precision, what="test")


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
    """Evaluate `model` as `evaluate` does inside each of the contexts that `ways()` yields: anew, and alike, for every batch.

    Where no process could read any of its samples, there are no scores.
    """
    model.eval()
    scored: list[list[Scores]] = []
    world, seen = sharers(loader), 0
    for part in (part for batch in loader for part, _ in precision.parts(precision.to_device(batch), in_order=True)):
        for number, way in enumerate(ways()):
            with way, precision.autocast():
                outputs = model(part.inputs)
            if number == len(scored):
                scored.append([])
            keep(scored[number], objective.evaluation(outputs, part.targets, part.own).cpu())
            evaluated(seen_by_all(loader, seen + len(part.inputs)) - seen_by_all(loader, seen))
        seen += len(part.inputs)
    known = of_one_kind(scored or None, world, emptied=lambda each: [[mine[0].emptied()] for mine in each]) or []
    found = [objective.of_set(mine, world=world) for mine in known]
    for scores in found:
        if bad := int((~torch.isfinite(scores.losses)).sum()):
            lower = f"in training, lower optim.lr or optim.clip_grad{or_precise(precision)}"
            raise TrainingDiverged(f"{bad} of {len(scores.losses)} {what} losses are not finite; {lower}")
    return found


def keep(before: list[Scores], scores: Scores) -> None:
    """Append the scores of a batch; their sums go to those of the first, for the counts of 1,000 classes take 8 MB."""
    if before and scores.sums is not None and before[0].sums is not None:
        before[0] = replace(before[0], sums=before[0].sums + scores.sums)
        scores = replace(scores, sums=None)
    before.append(scores)
