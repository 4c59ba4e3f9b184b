"""What is audited, and the plan: how long networks are trained and how often, so that all of it fits into the time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from lmsearch.data import Source, build_loaders, search_loaders
from lmsearch.data.loaders import TrainLoader
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.randomness import key
from lmsearch.engine.recipe import Recipe, build_trainer
from lmsearch.engine.train import Precision
from lmsearch.engine.unfinished import Unfinished
from lmsearch.errors import ConfigError
from lmsearch.search.derivation.choice import Quota
from lmsearch.search.derivation.kinds import derivation_kind
from lmsearch.search.discrete.architectures import Architecture, ArchitectureSpace, num_branches
from lmsearch.search.discrete.budget import training_cost
from lmsearch.search.discrete.evaluators import StandAlone
from lmsearch.search.session import SearchSession
from lmsearch.search.supernet.kept import keeping_scores
from lmsearch.search.supernet.options import SearchOptions
from lmsearch.search.trained import Trained
from lmsearch.search.trust.health import NUM_RANDOM
from lmsearch.search.trust.recheck import SUPERNETS

FEWEST_ROUNDS, WANTED_ROUNDS, MOST_ROUNDS = 3, 5, 8  # pairs of the race; up to the wanted ones are worth half the epochs
MOST_REPEATED = 8  # random architectures that are trained with a second seed
CONTROLS = 2
TIMED_STEPS = 3
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
    metric: str | None = None  # of all scores; None: the default of the kind of targets
    arms: Mapping[str, Architecture] = field(default_factory=dict)  # of the literature, trained once per round
    unfinished: Unfinished | None = None  # keeps what is stopped, so that it goes on there

    def part(self, name: str, within: Unfinished | None) -> Setting:
        """Return this setting for the part of this name, whose trainings are kept with those of the others."""
        return self if within is None else replace(self, unfinished=within.inside(name))

    @property
    def arms_cost(self) -> float:
        """What training all arms costs, in trainings of a derived network."""
        return sum(map(num_branches, self.arms.values())) / sum(self.keep)

    @property
    def candidates(self) -> tuple[int, ...]:
        """How many candidates every layer has."""
        return tuple(len(layer) for layer in self.spec.directions)

    @property
    def space(self) -> ArchitectureSpace:
        """What random search draws from."""
        return ArchitectureSpace.of(self.spec.directions, self.keep)

    @property
    def derived_spec(self) -> ModelSpec:
        """Description of a derived network, which scans all of its channels; its directions are the architecture's."""
        options = {name: value for name, value in self.spec.options.items() if name != "partial_channels"}
        return replace(self.spec, merge="sum", directions=self.hand_made, options=options)

    def session(self, *, epochs: int, seed: int) -> SearchSession:
        """Return a search, before its first step."""
        cuda = self.precision.device.type == "cuda"
        loaders = search_loaders(
            self.source, holdout=self.holdout, batch_size=self.recipe.batch_size, seed=seed, num_workers=self.num_workers,
            pin_memory=cuda,
        )  # fmt: skip
        return SearchSession.over(
            self.source,
            self.spec,
            loaders,
            replace(self.recipe.over(epochs), ema_decay=None),
            self.options.over(epochs, of=self.recipe.epochs),
            Quota(keep=self.keep),
            derivation=self.derivation,
            precision=self.precision,
            seed=seed,
            recheck_share=self.recheck,
            metric=self.metric,
            backend=self.backend,
        )

    def search(self, *, epochs: int, seed: int) -> SearchSession:
        """Return a search whose supernet is trained."""
        session = self.session(epochs=epochs, seed=seed)
        self.train(session)
        return session

    def train(self, session: SearchSession) -> None:
        """Train a supernet, or go on with what is kept of that; the trained one is kept too, for what comes after it."""
        if self.unfinished is None:
            session.train()
            return
        more = session.own_parts() | {"alpha_optimizer": session.alpha_optimizer}
        state, start = self.unfinished.training(session.trainer, self.spec, session.recipe, more=more)
        session.train(start=start, state=state)
        state.write()

    @contextmanager
    def trained(self, session: SearchSession) -> Iterator[Trained]:
        """Give the block the trained supernet of a search; held-out losses that it asks for are kept while it runs."""
        if self.unfinished is None:
            yield session.trained
            return
        with keeping_scores(self.unfinished.folder, self.unfinished.run, every_s=self.unfinished.every_s) as kept:
            yield replace(session.trained, kept=kept)

    def alone(self, *, epochs: int, seed: int) -> StandAlone:
        """Return what trains an architecture from scratch."""
        recipe = self.recipe.over(epochs)
        return StandAlone(
            self.derived_spec, self.source, recipe, self.precision, seed, self.backend, self.num_workers, self.metric,
            self.unfinished,
        )  # fmt: skip


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
    `derive_s`: of masking the supernet to derive, and `derive_cost` the same in branch-scan steps.

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
    derive_cost: float

    def search_s(self, epochs: int) -> float:
        """Seconds of a search."""
        return epochs * self.search_steps * self.search_step_s

    def alone_s(self, epochs: int) -> float:
        """Seconds of one training from scratch."""
        return epochs * self.alone_steps * self.alone_step_s + self.evaluation_s

    def total_s(self, plan: Plan, *, arms_cost: float = 0.0) -> float:
        """Seconds of an audit whose arms cost so many trainings a round."""
        searches, alone = CONTROLS + plan.rounds, plan.rounds * (2 + plan.per_round + arms_cost) + plan.repeated
        masked = plan.rounds**2 * plan.per_round * self.evaluation_s
        health = CONTROLS * (self.health_s + self.recheck * plan.epochs * self.search_steps * self.alone_step_s)
        return searches * (self.search_s(plan.epochs) + self.derive_s) + alone * self.alone_s(plan.epochs) + health + masked


def measure(setting: Setting) -> Speed:
    """Time a few training steps of the supernet and of a derived network."""
    batch = setting.recipe.batch_size
    common: dict[str, Any] = {"batch_size": batch, "seed": setting.seed, "num_workers": setting.num_workers}
    searching = search_loaders(setting.source, holdout=setting.holdout, **common)
    alone = build_loaders(setting.source, **common)
    whole = step_s(setting, setting.spec, alone.train)
    one = step_s(setting, setting.derived_spec, alone.train)
    samples = alone.num_measured
    candidates, held = sum(setting.candidates), searching.holdout.num_samples
    masks = NUM_RANDOM * (1 + (SUPERNETS if setting.recheck else 0)) + 2 * candidates
    passes = setting.options.passes_of(setting.keep, setting.candidates)
    cost, mixtures = derivation_cost(setting, held), derivation_kind(setting.derivation).runs_mixtures
    return Speed(
        search_step_s=passes * (whole if setting.options.kind.learns else one),
        search_steps=len(searching.weights),
        health_s=masks * held / batch * whole / 3,
        alone_step_s=one,
        alone_steps=len(alone.train),
        evaluation_s=one / 3 * samples / batch,
        recheck=SUPERNETS * setting.recheck * candidates / sum(setting.keep),
        derive_s=cost * (whole / candidates if mixtures else one / sum(setting.keep)),
        derive_cost=cost,
    )


def derivation_cost(setting: Setting, num_samples: int) -> float:
    """Return the branch-scan steps that deriving takes, about, where so many samples are held out."""
    kind, size = derivation_kind(setting.derivation), setting.recipe.batch_size
    return kind.cost(setting.keep, setting.candidates, held=num_samples, batch_size=size)


def step_s(setting: Setting, spec: ModelSpec, loader: TrainLoader) -> float:
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


def per_round(setting: Setting, speed: Speed, epochs: int) -> int:
    """Return how many architectures random search may train for what one search, its derivation and retraining cost."""
    options = setting.options.over(epochs, of=setting.recipe.epochs)
    branches = options.branches_over(epochs, setting.keep, setting.candidates)
    searching = training_cost(speed.search_steps, branches) + speed.derive_cost
    training = training_cost(epochs * speed.alone_steps, sum(setting.keep))
    return min(setting.space.size, max(1, int((searching + training) // training)))


def make_plan(setting: Setting, speed: Speed, *, minutes: float, at_once: int = 1) -> Plan:
    """Return the plan that fits: as many rounds as there is time for, at the recipe's epochs or, if need be, at fewer.

    So many parts are done `at_once`. Raises ConfigError where not even single epochs fit.
    """
    time_s, full = SAFETY * 60 * minutes * at_once, setting.recipe.epochs

    def planned(epochs: int, rounds: int) -> Plan:
        """The plan of so many epochs and rounds."""
        return Plan(epochs, rounds, per_round(setting, speed, epochs))

    takes_s = partial(speed.total_s, arms_cost=setting.arms_cost)

    def longest(rounds: int) -> int:
        """Epochs that fit, 0 for none."""
        return max((e for e in range(1, full + 1) if takes_s(planned(e, rounds)) <= time_s), default=0)

    for rounds in range(MOST_ROUNDS, FEWEST_ROUNDS - 1, -1):
        epochs = longest(rounds)
        if epochs == full or (rounds <= WANTED_ROUNDS and epochs >= full / 2) or (rounds == FEWEST_ROUNDS and epochs):
            return planned(epochs, rounds)
    least = takes_s(planned(1, FEWEST_ROUNDS)) / SAFETY / 60 / at_once
    raise ConfigError(f"minutes={minutes:g} are too few: trainings of one epoch each need about {least:.0f}")
