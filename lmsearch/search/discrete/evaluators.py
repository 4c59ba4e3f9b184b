"""What an architecture is worth: trained from scratch, or masked inside a trained supernet. Both score on held-out samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import nn

from lmsearch.data import Loaders, Source, build_loaders
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.finite import TrainingDiverged
from lmsearch.engine.loop import run_epochs
from lmsearch.engine.objectives import Objective, Scores, objective_for
from lmsearch.engine.randomness import key
from lmsearch.engine.recipe import Recipe, build_trainer
from lmsearch.engine.state import BEGINNING
from lmsearch.engine.train import Precision, evaluate, validate_and_test
from lmsearch.engine.unfinished import Unfinished
from lmsearch.search.discrete.architectures import Architecture, num_branches
from lmsearch.search.discrete.budget import evaluation_cost, training_cost
from lmsearch.search.supernet.network import masked, named_mixers, running


@dataclass(frozen=True)
class Evaluation:
    """`score`: higher is better (accuracy, or minus the squared error; -inf where training diverged); `loss`: mean over the
    same held-out samples; `cost`: what it took, in branch-scan steps (search/discrete/budget.py); `error`: standard error of the
    score from the number of held-out samples alone."""

    score: float
    loss: float
    cost: float
    error: float = 0.0


def evaluation(scores: Scores, objective: Objective, *, cost: float) -> Evaluation:
    """Return the Evaluation of per-sample scores, the score turned so that higher is better."""
    return Evaluation(objective.metric.signed(scores.score), scores.loss, cost, objective.standard_error(scores))


@dataclass(frozen=True)
class StandAlone:
    """Trains an architecture from scratch on the training set and scores it by `metric` on the validation set.

    `spec` describes the model; its own directions do not matter. The score equals the validation score that
    `lmsearch retrain` reports for the same recipe and seed. A training that is stopped is kept in `unfinished` and goes on
    there; without it nothing is written.
    """

    spec: ModelSpec
    source: Source
    recipe: Recipe
    precision: Precision
    seed: int
    backend: str = "auto"
    num_workers: int = 0
    metric: str | None = None  # None: the default of the kind of targets
    unfinished: Unfinished | None = None

    def __call__(self, architecture: Architecture) -> Evaluation:
        """Train and score. An architecture whose loss does not stay finite scores -inf at the full cost."""
        return self.evaluated(architecture)[0]

    def evaluated(self, architecture: Architecture) -> tuple[Evaluation, Scores | None]:
        """Train and score, with what every validation sample scores; None where the loss does not stay finite."""
        loaders = self._loaders()
        cost = self._cost(loaders, num_branches(architecture))
        objective = objective_for(self.source.info.target, metric=self.metric)
        try:
            with self.trained(architecture, loaders) as model:
                scores = evaluate(model, loaders.val, objective, self.precision)
        except TrainingDiverged:
            return Evaluation(-math.inf, math.inf, cost), None
        return evaluation(scores, objective, cost=cost), scores

    def val_and_test(self, architecture: Architecture) -> tuple[Evaluation, Evaluation]:
        """Train, and score on the validation and on the test set; choose by the first, report the second.

        A training that diverges scores -inf on both.
        """
        loaders = self._loaders()
        cost = self._cost(loaders, num_branches(architecture))
        objective = objective_for(self.source.info.target, metric=self.metric)
        try:
            with self.trained(architecture, loaders) as model:
                scores = validate_and_test(model, loaders, objective, self.precision)
        except TrainingDiverged:
            return (Evaluation(-math.inf, math.inf, cost),) * 2
        return evaluation(scores[0], objective, cost=cost), evaluation(scores[1], objective, cost=cost)

    @contextmanager
    def trained(self, architecture: Architecture, loaders: Loaders) -> Iterator[nn.Module]:
        """Give the block the trained network; raise TrainingDiverged where the loss does not stay finite."""
        torch.manual_seed(key(self.seed, "init"))
        spec = replace(self.spec, directions=architecture, merge="sum")
        model = spec.build(backend=self.backend).to(self.precision.device)
        recipe, info = self.recipe, self.source.info
        trainer = build_trainer(recipe, model, model.named_parameters(), loaders.train, info, self.precision, seed=self.seed)
        state, start = None, BEGINNING
        if self.unfinished is not None:
            state, start = self.unfinished.inside(architecture).training(trainer, spec, recipe)
        with closing(loaders.train):
            run_epochs(trainer, loaders.train, epochs=recipe.epochs, start=start, state=state)
        with nullcontext() if state is None else state.written_if_stopped():
            yield trainer.result

    def train(self, architecture: Architecture, loaders: Loaders) -> nn.Module:
        """Return the trained network; raise TrainingDiverged where the loss does not stay finite."""
        with self.trained(architecture, loaders) as model:
            return model

    def price(self, branches: int) -> float:
        """Return what evaluating an architecture of so many branches costs, in branch-scan steps."""
        return self._cost(self._loaders(), branches)

    def _cost(self, loaders: Loaders, branches: int) -> float:
        size = self.recipe.batch_size
        trained = training_cost(self.recipe.epochs * len(loaders.train), branches)
        return trained + evaluation_cost(loaders.val.num_samples, batch_size=size, branches=branches)

    def _loaders(self) -> Loaders:
        return build_loaders(
            self.source,
            batch_size=self.recipe.batch_size,
            seed=self.seed,
            num_workers=self.num_workers,
            pin_memory=self.precision.device.type == "cuda",
        )


@dataclass(frozen=True)
class SharedWeights:
    """Scores an architecture by running only its directions, equally weighted, inside a trained supernet.

    `evaluate(module)` returns the scores of the same `num_samples` held-out samples every time; `batch_size` is the recipe's,
    the unit of the cost.
    """

    supernet: nn.Module
    evaluate: Callable[[nn.Module], Scores]
    objective: Objective
    batch_size: int
    num_samples: int

    def __call__(self, architecture: Architecture) -> Evaluation:
        """Mask and score; the supernet stays as it is. An architecture whose losses are not finite there scores -inf."""
        layers = named_mixers(self.supernet)
        choice = masked(self.supernet, dict(zip(layers, architecture, strict=True)))
        branches = num_branches(architecture)
        cost = evaluation_cost(self.num_samples, batch_size=self.batch_size, branches=branches)
        try:
            with running(self.supernet, choice):
                scores = self.evaluate(self.supernet)
        except TrainingDiverged:
            return Evaluation(-math.inf, math.inf, cost)
        return evaluation(scores, self.objective, cost=cost)
