"""How a network is trained, as plain values, and the Trainer that follows from them: what tasks and searches share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lmsearch.data import Batch, DataInfo, TrainLoader
from lmsearch.data.info import Loader
from lmsearch.data.mixup import mixup_cutmix, partners_of
from lmsearch.data.order import ALONE, Ranks, sharers
from lmsearch.engine.compiler import check_compiler
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.nonfinite import Skips, answer_named
from lmsearch.engine.objectives import Objective, class_weights, objective_for
from lmsearch.engine.optim import Cosine, adamw, layer_scales, moving_average, undecayed
from lmsearch.engine.train import Mix, Precision, StepHook, Trainer
from lmsearch.errors import ConfigError
from lmsearch.models.mixer import compile_mixers, recompute_mixers


@dataclass(frozen=True)
class Recipe:
    """The keys of a preset in conf/optim/ (see there for units); `batch_size` counts images per step."""

    epochs: int
    batch_size: int
    lr: float
    min_lr: float
    warmup_lr: float
    warmup_epochs: float
    weight_decay: float
    betas: tuple[float, float]
    clip_grad: float | None
    label_smoothing: float
    mixup: float
    cutmix: float
    mix_prob: float
    mix_switch_prob: float
    ema_decay: float | None
    class_weights: str = "none"
    layer_decay: float = 1.0
    warmup_prefix: bool = False
    on_nonfinite: str = "stop"
    nonfinite_steps: int = 3

    def over(self, epochs: int) -> Recipe:
        """Return this recipe over other epochs; the warm-up keeps its share of them."""
        return replace(self, epochs=epochs, warmup_epochs=self.warmup_epochs * epochs / self.epochs)

    def schedule(self, steps_per_epoch: int) -> Cosine:
        """Return the learning rate of every step."""
        warmup = int(self.warmup_epochs * steps_per_epoch)
        return Cosine(self.lr, self.min_lr, self.warmup_lr, warmup, self.epochs * steps_per_epoch, self.warmup_prefix)


def training_objective(recipe: Recipe, info: DataInfo, loader: Loader) -> Objective:
    """Return what weights, and alphas, are trained for: with smoothed labels and weighted classes, as the recipe says.

    A class of n of N samples among C classes weighs N / (C n), so that the mean weight is 1. Where the loader draws all classes
    alike there is nothing to weigh.
    """
    weights = None
    if recipe.class_weights == "balanced":
        if not isinstance(loader, TrainLoader):
            raise ConfigError("class_weights='balanced' counts the samples of a data source, and these batches are of none")
        if loader.sampler == "balanced":
            return objective_for(info.target, label_smoothing=recipe.label_smoothing)
        weights = class_weights(torch.from_numpy(loader.class_counts(info.num_classes)))
    return objective_for(info.target, label_smoothing=recipe.label_smoothing, class_weights=weights)


def build_mix(recipe: Recipe, info: DataInfo, *, world: Ranks = ALONE) -> Mix | None:
    """Return mixup and cutmix as the recipe says, or None where both are off or targets are not classes.

    In the processes of `world`, which share the batches, the same samples are mixed as in one.
    """
    if not info.targets.classes or recipe.mix_prob == 0 or (recipe.mixup == 0 and recipe.cutmix == 0):
        return None

    def mix(batch: Batch, generator: torch.Generator) -> Batch:
        inputs, targets = mixup_cutmix(
            batch.inputs,
            batch.target_values,
            num_classes=info.num_classes,
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            prob=recipe.mix_prob,
            switch_prob=recipe.mix_switch_prob,
            smoothing=recipe.label_smoothing,
            generator=generator,
            partners=partners_of(batch, world),
        )
        return batch._replace(inputs=inputs, targets=targets)

    return mix


@dataclass(frozen=True)
class Goal:
    """What a network is trained for: its objective, and how images are mixed on the way."""

    objective: Objective
    mix: Mix | None = None


def goal_of(recipe: Recipe, info: DataInfo, loader: Loader) -> Goal:
    """Return what a recipe trains for on a data source."""
    return Goal(training_objective(recipe, info, loader), build_mix(recipe, info, world=sharers(loader)))


def trainer_for(
    recipe: Recipe,
    model: nn.Module,
    named_parameters: Iterable[tuple[str, Tensor]],
    goal: Goal,
    precision: Precision,
    *,
    steps_per_epoch: int,
    seed: int,
    hook: StepHook | None = None,
    beside: torch.optim.Optimizer | None = None,
    world: World = SINGLE,
) -> Trainer:
    """Return the trainer of `named_parameters` towards `goal` as the recipe describes.

    `hook` may act in every step, and `beside` is the optimizer of what it moves.
    """
    if precision.grad_checkpointing:
        recompute_mixers(model)
    if precision.compile:
        check_compiler(precision.device)
        compile_mixers(model)
    optimizer = adamw(
        named_parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=recipe.betas, skip=undecayed(model),
        scales=layer_scales(model, recipe.layer_decay),
    )  # fmt: skip
    return Trainer(
        model,
        optimizer,
        goal.objective,
        recipe.schedule(steps_per_epoch),
        precision,
        seed,
        recipe.clip_grad,
        goal.mix,
        None if recipe.ema_decay is None else moving_average(model, recipe.ema_decay),
        hook,
        world,
        Skips(answer_named(recipe.on_nonfinite), recipe.nonfinite_steps, beside),
    )


def build_trainer(
    recipe: Recipe,
    model: nn.Module,
    named_parameters: Iterable[tuple[str, Tensor]],
    loader: TrainLoader,
    info: DataInfo,
    precision: Precision,
    *,
    seed: int,
    world: World = SINGLE,
) -> Trainer:
    """Return the trainer of `named_parameters` on the batches of a data source, in one of the processes of `world`."""
    goal = goal_of(recipe, info, loader)
    steps = len(loader)
    return trainer_for(recipe, model, named_parameters, goal, precision, steps_per_epoch=steps, seed=seed, world=world)
