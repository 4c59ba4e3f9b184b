"""What is audited, and the plan: how long networks are trained and how often, so that all of it fits into the time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from lmsearch.data import Source, build_loaders, search_loaders
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.randomness import key
from lmsearch.engine.recipe import Recipe, build_trainer
from lmsearch.engine.train import Precision, train_one_epoch
from lmsearch.errors import ConfigError
from lmsearch.search.architectures import Architecture, ArchitectureSpace
from lmsearch.search.climb import CLIMB_SAMPLES, STARTS
from lmsearch.search.evaluators import StandAlone
from lmsearch.search.health import NUM_RANDOM, Health
from lmsearch.search.oneshot import OneShot, train_oneshot
from lmsearch.search.options import SearchOptions
from lmsearch.search.recheck import SUPERNETS, fresh_seeds, recheck_recipe
from lmsearch.search.single_path import single_path

FEWEST_ROUNDS, WANTED_ROUNDS, MOST_ROUNDS = 3, 5, 8  # pairs of the race; up to the wanted ones are worth half the epochs
MOST_REPEATED = 8  # random architectures that are trained with a second seed
CONTROLS = 2
TIMED_STEPS = 3
SWEEPS = 4  # over all layers, that a climb is expected to take
SAFETY = 0.85  # of the time is planned for


@dataclass(frozen=True)
class Setting:
    """Data, supernet (`spec` holds the candidates), recipe and options of a search; `keep` directions stay in each layer."""

    spec: ModelSpec
    source: Source
    recipe: Recipe
    options: SearchOptions
    keep: tuple[int, ...]
    holdout: float
    hand_made: Architecture
    precision: Precision
    seed: int
    derivation: str = "topk"
    recheck: float = 0.0
    backend: str = "auto"
    num_workers: int = 0

    @property
    def space(self) -> ArchitectureSpace:
        """What random search draws from."""
        return ArchitectureSpace.of(self.spec.directions, self.keep)

    @property
    def derived_spec(self) -> ModelSpec:
        """Description of a derived network, which scans all of its channels; its directions are the architecture's."""
        options = {name: value for name, value in self.spec.options.items() if name != "partial_channels"}
        return replace(self.spec, merge="sum", directions=self.hand_made, options=options)

    def search(self, *, epochs: int, seed: int) -> OneShot:
        """Train the supernet."""
        return train_oneshot(
            self.spec,
            self.source,
            replace(self.recipe, epochs=epochs),
            self.precision,
            options=self.options,
            keep=self.keep,
            holdout=self.holdout,
            seed=seed,
            backend=self.backend,
            num_workers=self.num_workers,
        )

    def conclude(self, found: OneShot, *, epochs: int, seed: int) -> tuple[Architecture, Health]:
        """Return what a search of so many epochs derives and how sure that is, recheck included."""
        choices = found.choices(self.derivation)
        health = found.health(choices, self.derivation, seed=seed, fresh=self.fresh(found, epochs=epochs, seed=seed))
        return tuple(choice.directions for choice in choices), health

    def fresh_recipe(self, epochs: int) -> Recipe:
        """Return the recipe of one supernet of the recheck."""
        candidates = sum(len(layer) for layer in self.spec.directions)
        return recheck_recipe(replace(self.recipe, epochs=epochs), self.recheck, candidates=candidates, keep=sum(self.keep))

    def fresh(self, found: OneShot, *, epochs: int, seed: int) -> Iterator[nn.Module]:
        """Train and yield the supernets of the recheck, if there is one."""
        if self.recheck == 0:
            return
        loader, recipe = found.loaders.weights, self.fresh_recipe(epochs)
        for own in fresh_seeds(seed):
            policy, trainer = single_path(
                self.spec, self.keep, recipe, loader, self.source.info, self.precision, seed=own, backend=self.backend
            )
            with policy.attached():
                for epoch in range(recipe.epochs):
                    train_one_epoch(trainer, loader, epoch=epoch, on_step=lambda index, scores: None)
            yield policy.module

    def alone(self, *, epochs: int, seed: int) -> StandAlone:
        """Return what trains an architecture from scratch."""
        recipe = replace(self.recipe, epochs=epochs)
        return StandAlone(self.derived_spec, self.source, recipe, self.precision, seed, self.backend, self.num_workers)


@dataclass(frozen=True)
class Plan:
    """Epochs of every training, pairs of the race, and random architectures per pair: as many as one search costs."""

    epochs: int
    rounds: int
    per_round: int

    @property
    def repeated(self) -> int:
        """Random architectures with a second seed."""
        return min(self.rounds * self.per_round, MOST_REPEATED)

    @property
    def parts(self) -> int:
        """Rows of the ledger, the measurement and the plan itself included."""
        return 1 + CONTROLS + self.rounds * (2 + self.per_round) + self.repeated


@dataclass(frozen=True)
class Speed:
    """Seconds of one training step and steps of an epoch, of the supernet and of a derived network, and of testing either;
    `derive_s`: of masking the supernet to derive.

    A search's health is tested in the controls only; masking a supernet takes no more than evaluating a network. `recheck` is
    that of the controls: training steps of a derived network for every step of a search.
    """

    search_step_s: float
    search_steps: int
    health_s: float
    alone_step_s: float
    alone_steps: int
    evaluation_s: float
    recheck: float
    derive_s: float

    def search_s(self, epochs: int) -> float:
        """Seconds of a search."""
        return epochs * self.search_steps * self.search_step_s

    def alone_s(self, epochs: int) -> float:
        """Seconds of one training from scratch."""
        return epochs * self.alone_steps * self.alone_step_s + self.evaluation_s

    def total_s(self, plan: Plan) -> float:
        """Seconds of an audit."""
        searches, alone = CONTROLS + plan.rounds, plan.rounds * (2 + plan.per_round) + plan.repeated
        masked = plan.rounds**2 * plan.per_round * self.evaluation_s
        health = CONTROLS * (self.health_s + self.recheck * plan.epochs * self.search_steps * self.alone_step_s)
        return searches * (self.search_s(plan.epochs) + self.derive_s) + alone * self.alone_s(plan.epochs) + health + masked


def measure(setting: Setting) -> Speed:
    """Time a few training steps of the supernet and of a derived network."""
    batch = setting.recipe.batch_size
    common = {"batch_size": batch, "seed": setting.seed, "num_workers": setting.num_workers}
    searching = search_loaders(setting.source, holdout=setting.holdout, **common)
    alone = build_loaders(setting.source, **common)
    whole = step_s(setting, setting.spec, alone.train)
    one = step_s(setting, setting.derived_spec, alone.train)
    samples = alone.val.num_samples + alone.test.num_samples
    candidates = sum(len(layer) for layer in setting.spec.directions)
    masks = NUM_RANDOM * (1 + (SUPERNETS if setting.recheck else 0)) + 2 * candidates
    health = masks * searching.holdout.num_samples / batch * whole / 3
    passes = setting.options.passes_of(setting.keep, [len(layer) for layer in setting.spec.directions])
    search_step = passes * (one if setting.options.architect == "fair" else whole)
    recheck = SUPERNETS * setting.recheck * candidates / sum(setting.keep)
    masks = masks_to_derive(setting) * min(CLIMB_SAMPLES, searching.holdout.num_samples)
    derive = masks / batch * one / 3
    return Speed(search_step, len(searching.weights), health, one, len(alone.train), one / 3 * samples / batch, recheck, derive)


def masks_to_derive(setting: Setting) -> int:
    """Return about how many forward passes of a derived network the derivation takes."""
    pairs = [(k, len(layer)) for k, layer in zip(setting.keep, setting.spec.directions, strict=True)]
    if setting.derivation == "climb":
        return STARTS + SWEEPS * sum(k * (total - k) for k, total in pairs)
    return 0 if setting.derivation == "topk" else sum(sum(range(k, total)) for k, total in pairs)


def step_s(setting: Setting, spec: ModelSpec, loader: object) -> float:
    """Return the seconds of one training step, the fastest of a few."""
    torch.manual_seed(key(setting.seed, "init"))
    model = spec.build(backend=setting.backend).to(setting.precision.device).train()
    trainer = build_trainer(
        setting.recipe, model, model.named_parameters(), loader, setting.source.info, setting.precision, seed=setting.seed
    )
    batch = next(iter(loader))
    times = []
    for index in range(1 + TIMED_STEPS):
        began = time.perf_counter()
        trainer.step(batch, epoch=0, index=index, lr=0.0).loss  # noqa: B018  reading the loss waits for the device
        times.append(time.perf_counter() - began)
    return min(times[1:])


def per_round(setting: Setting, speed: Speed) -> int:
    """Return how many architectures random search may train for what one search, its derivation and retraining cost."""
    candidates = [len(layer) for layer in setting.spec.directions]
    searching = setting.options.branches_per_step(setting.keep, candidates) * speed.search_steps
    training = sum(setting.keep) * speed.alone_steps
    return min(setting.space.size, max(1, int((searching + training) // training)))


def make_plan(setting: Setting, speed: Speed, *, minutes: float) -> Plan:
    """Return the plan that fits: as many rounds as there is time for, at the recipe's epochs or, if need be, at fewer.

    Raises ConfigError where not even single epochs fit.
    """
    time_s, tries, full = SAFETY * 60 * minutes, per_round(setting, speed), setting.recipe.epochs

    def longest(rounds: int) -> int:
        """Epochs that fit, 0 for none."""
        fitting = [e for e in range(1, full + 1) if speed.total_s(Plan(e, rounds, tries)) <= time_s]
        return max(fitting, default=0)

    for rounds in range(MOST_ROUNDS, FEWEST_ROUNDS - 1, -1):
        epochs = longest(rounds)
        if epochs == full or (rounds <= WANTED_ROUNDS and epochs >= full / 2) or (rounds == FEWEST_ROUNDS and epochs):
            return Plan(epochs, rounds, tries)
    least = speed.total_s(Plan(1, FEWEST_ROUNDS, tries)) / SAFETY / 60
    raise ConfigError(f"minutes={minutes:g} are too few: trainings of one epoch each need about {least:.0f}")
