"""A supernet trained in memory, without files: for comparisons that run many searches and count what each one costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.amp import GradScaler

from lmsearch.data import SearchLoaders, Source, search_loaders
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.loop import run_epochs
from lmsearch.engine.objective import Objective, objective_for
from lmsearch.engine.randomness import key
from lmsearch.engine.recipe import Recipe, build_trainer, training_objective
from lmsearch.engine.train import Batch, Precision, StepHook
from lmsearch.genotype import LayerChoice
from lmsearch.search.architects.learning import Frozen, Timing
from lmsearch.search.derivation.choice import Quota, choose, surviving
from lmsearch.search.derivation.kinds import derivation_kind, samples_for, saw_holdout
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.discrete.evaluators import SharedWeights
from lmsearch.search.supernet.masking import Evaluate, HeldOut, losses_of
from lmsearch.search.supernet.network import named_mixers, probabilities, remaining, weight_parameters
from lmsearch.search.supernet.options import SearchOptions
from lmsearch.search.supernet.policy import BranchPolicy
from lmsearch.search.supernet.relax import RELAXATIONS, at_temperature
from lmsearch.search.trust.health import Health, check_health, leave_one_out


@dataclass
class Counted:
    """A step hook that counts the branch-scan steps of what another one does."""

    hook: StepHook
    policy: BranchPolicy
    timing: Timing
    passes: int
    spent: float = field(default=0.0, init=False)
    epoch: int = field(default=0, init=False)

    def before_step(self, batch: Batch, *, epoch: int, step: int, lr: float) -> None:
        """Let the hook act."""
        self.hook.before_step(batch, epoch=epoch, step=step, lr=lr)
        self.epoch = epoch

    def passes_of_step(self) -> int:
        """Return what the hook says."""
        return self.hook.passes_of_step()

    def begin_pass(self, number: int) -> None:
        """Let the hook act and count the branches that it drew for the step; all of its passes run as many."""
        self.hook.begin_pass(number)
        if number == 0:
            branches = sum(len(draw.picked) for draw in self.policy.draws.values())
            self.spent += branches * (self.passes if self.timing.warm(self.epoch) else 1)

    def after_backward(self, scaler: GradScaler) -> None:
        """Let the hook act."""
        self.hook.after_backward(scaler)


@dataclass(frozen=True)
class OneShot:
    """A trained supernet. `options` None: shared weights, trained on uniformly drawn branches without alphas.

    `cost` is that of training, in branch-scan steps.
    """

    policy: BranchPolicy
    loaders: SearchLoaders
    options: SearchOptions | None
    objective: Objective
    precision: Precision
    keep: tuple[int, ...]
    batch_size: int
    cost: float

    @property
    def module(self) -> nn.Module:
        """The supernet."""
        return self.policy.module

    def on(self, batches: Iterable[Batch]) -> Evaluate:
        """Return what scores a network on these samples."""
        return HeldOut(batches, self.objective, self.precision)

    def probabilities(self) -> dict[str, dict[str, float]]:
        """Return every layer's probability of every direction."""
        return probabilities(self.module, at_temperature(self.policy.relaxation, self.policy.temperature(1.0)))

    def health(self, choices: Sequence[LayerChoice], derivation: str, *, seed: int, fresh: Iterable[nn.Module] = ()) -> Health:
        """Return how sure these choices are, which the derivation made, on samples that had no part in them; `fresh` supernets
        are the recheck's."""
        alphas = self.probabilities() if self.policy.relaxation.learns else None
        unseen = self.loaders.val if saw_holdout(derivation, self.options.architect) else self.loaders.holdout
        return check_health(self.module, choices, self.on(unseen), seed=seed, fresh=fresh, alphas=alphas)

    def derive(self, derivation: str = "topk", *, samples: int | None = None) -> Architecture:
        """Return the directions of every layer, by a derivation (derivations.py)."""
        return tuple(choice.directions for choice in self.choices(derivation, samples=samples))

    def choices(self, derivation: str, *, samples: int | None = None) -> tuple[LayerChoice, ...]:
        """Return what is kept in every layer, and why; `samples` held-out ones, spread over all, are masked on."""
        held = self.on(samples_for(derivation, self.loaders.holdout, samples=samples))
        derive = derivation_kind(derivation).derive
        choices, _ = derive(self.module, self.probabilities(), held, Quota(keep=self.keep), self.policy.seed)
        return choices

    def shared(self) -> SharedWeights:
        """Return what scores architectures by masking the supernet on the held-out samples."""
        held = self.loaders.holdout
        return SharedWeights(self.module, self.on(held), self.objective, self.batch_size, held.num_samples)

    def alpha_score(self, architecture: Architecture) -> float:
        """Return the sum of the log probabilities of the directions of an architecture."""
        layers = zip(self.probabilities().values(), architecture, strict=True)
        return float(sum(np.log(max(p[name], 1e-300)) for p, names in layers for name in names))

    def usefulness(self) -> list[dict[str, float]]:
        """Return how much the held-out loss of the mixture rises when one direction of one layer is left out."""
        chances = self.probabilities()
        choices = choose(chances, self.keep)
        mixture = {layer: remaining(self.module, layer, surviving(p), p) for layer, p in chances.items()}
        on_holdout = self.on(self.loaders.holdout)
        whole = losses_of(self.module, on_holdout, [mixture])[0]
        rises = leave_one_out(self.module, on_holdout, choices, mixture, whole)
        return [dict.fromkeys(p, 0.0) | rises.get(layer, {}) for layer, p in chances.items()]


def train_oneshot(
    spec: ModelSpec,
    source: Source,
    recipe: Recipe,
    precision: Precision,
    *,
    options: SearchOptions | None,
    keep: tuple[int, ...],
    holdout: float,
    seed: int,
    backend: str = "auto",
    num_workers: int = 0,
    metric: str | None = None,
) -> OneShot:
    """Train the supernet that `spec` describes (its directions are the candidates) as `lmsearch search` would.

    Without `options`, weights are shared and trained on `keep` uniformly drawn branches per layer and step.
    """
    cuda = precision.device.type == "cuda"
    loaders = search_loaders(
        source, holdout=holdout, batch_size=recipe.batch_size, seed=seed, num_workers=num_workers, pin_memory=cuda
    )
    torch.manual_seed(key(seed, "init"))
    supernet = spec.build(backend=backend).to(precision.device)
    if options is None:
        policy = BranchPolicy(supernet, RELAXATIONS["uniform"], keep, keep, seed)
    else:
        policy = options.policy(supernet, keep, [len(layer) for layer in spec.directions], seed=seed)
    objective, steps = objective_for(source.info.target, metric=metric), len(loaders.weights)
    timing = Timing(steps, recipe.epochs, 0 if options is None else options.alpha_warmup_epochs)
    trained = training_objective(recipe, source.info, loaders.weights)
    counted = _hook(policy, timing, options, loaders, trained, precision)
    trainer = build_trainer(
        recipe, supernet, weight_parameters(supernet), loaders.weights, source.info, precision, seed=seed, hook=counted
    )
    with policy.attached(), closing(loaders.weights), closing(loaders.alphas):
        run_epochs(
            trainer, loaders.weights, epochs=recipe.epochs,
            on_epoch=lambda epoch, _: policy.end_epoch(timing.progress(epoch + 1, 0)),
        )  # fmt: skip
    return OneShot(policy, loaders, options, objective, precision, tuple(keep), recipe.batch_size, counted.spent)


def _hook(
    policy: BranchPolicy,
    timing: Timing,
    options: SearchOptions | None,
    loaders: SearchLoaders,
    objective: Objective,
    precision: Precision,
) -> Counted:
    """Return the architect of `options`, or one that leaves alphas alone, with its costs counted."""
    if options is None:
        return Counted(Frozen(policy, timing), policy, timing, 1)
    architect, _ = options.build(policy, timing, loaders.alphas, objective, precision)
    candidates = [len(mixer.directions) for mixer in named_mixers(policy.module).values()]
    passes = options.passes_of(policy.keep, candidates)
    return Counted(architect, policy, timing, passes)
