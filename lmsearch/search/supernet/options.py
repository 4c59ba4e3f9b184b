"""The options of a supernet search as one value, checked together: contradictions are found before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from lmsearch.data.info import Loader
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.objectives import Objective
from lmsearch.engine.train import Precision, StepHook
from lmsearch.errors import ConfigError
from lmsearch.search.architects.alpha_update import alpha_optimizer
from lmsearch.search.architects.kinds import (
    ARCHITECTS,
    PATHS,
    ArchitectKind,
    Knobs,
    Parts,
    architect_kind,
    check_architect,
    check_hook,
)
from lmsearch.search.architects.learning import Timing
from lmsearch.search.supernet.policy import BranchPolicy, Schedule, Shrink, read_shrink
from lmsearch.search.supernet.relax import Relaxation, at_temperature, check_relaxation, softmax_probabilities
from lmsearch.search.supernet.relax import relaxation as relaxation_named

LEAST_SAMPLES = 2


@dataclass(frozen=True)
class SearchOptions:
    """How a supernet is searched: the keys of conf/search/, under the same names."""

    relaxation: str | Relaxation  # by name, or one's own
    update: str
    architect: str | ArchitectKind  # by name, or one's own
    order: int
    mixed_weight: float
    alpha_lr: float | None  # None: that of the weights
    alpha_betas: Sequence[float]
    alpha_weight_decay: float
    alpha_weight_decay_end: float | None
    alpha_warmup_epochs: int
    temperature: float
    temperature_end: float | None
    samples: int | None
    shrink: Sequence[Sequence[float]]
    passes: int | None
    dominance: float | None = None  # chance to find a dominant direction where none matters; None: nobody looks

    def __post_init__(self) -> None:
        how = self.how
        check_relaxation(how)
        check_architect(self.kind)
        named = f"search.relaxation={how.name}"
        if how.learns != self.kind.learns:
            raise ConfigError(
                f"{named} with search.architect={self.kind.name}: relaxation=uniform and architect=fair, under which no alphas"
                " learn, only go together (search=fair)"
            )
        if not how.learns:
            self._check_without_alphas()
            if self.dominance == 0:
                raise ConfigError("search.dominance=0 can find nothing; null: nobody looks, 0.01: usual")
            return
        if self.passes is not None:
            raise ConfigError(f"search.passes={self.passes} needs search=fair; with alphas the architect says how many there are")
        if self.dominance is not None:
            raise ConfigError(f"search.dominance={self.dominance} needs search=fair; here alphas learn from the start")
        if self.update != "adam" and how.probabilities is not softmax_probabilities:
            raise ConfigError(f"search.update={self.update} moves probabilities that are softmax(alphas); {named} has others")
        if self.update != "adam" and (self.temperature, self.temperature_end or 1.0) != (1.0, 1.0):
            raise ConfigError(f"search.update={self.update} takes its step at temperature 1, not {self.temperature}")
        if self.samples is not None and how.pick is None:
            raise ConfigError(f"search.samples={self.samples}: {named} runs every branch; samples need gumbel or sampled")
        for name in ("order", "mixed_weight"):
            if (value := getattr(self, name)) != getattr(Knobs, name) and name not in self.kind.takes:
                takers = " or ".join(kind.name for kind in ARCHITECTS.values() if name in kind.takes)
                raise ConfigError(f"search.{name}={value} needs search.architect={takers}, not {self.kind.name}")
        tempered = self.temperature != 1.0 or self.temperature_end not in (None, 1.0)
        if tempered and not how.has_temperature:
            raise ConfigError(f"search.temperature={self.temperature}: {named} has no temperature")
        if not 0 < self.temperature or (self.temperature_end is not None and not 0 < self.temperature_end):
            raise ConfigError(f"search.temperature={self.temperature} and its end must be above 0")

    def _check_without_alphas(self) -> None:
        """Raise ConfigError for options that only mean something where alphas learn."""
        plain: dict[str, Any] = {
            "shrink": [], "samples": None, "alpha_warmup_epochs": 0, "update": "adam", "order": 1, "mixed_weight": 1.0,
            "temperature": 1.0, "temperature_end": None, "alpha_weight_decay": 0.0, "alpha_weight_decay_end": None,
        }  # fmt: skip
        for name, nothing in plain.items():
            value = getattr(self, name)
            if (list(value) if name == "shrink" else value) != nothing:
                raise ConfigError(
                    f"search.{name}={value} has no meaning with search.architect={self.kind.name}, which learns no alphas"
                )

    def over(self, epochs: int, *, of: int) -> SearchOptions:
        """Return these options for a search of other epochs than `of`; the alphas' warm-up keeps its share of them."""
        return replace(self, alpha_warmup_epochs=self.alpha_warmup_epochs * epochs // of)

    @property
    def how(self) -> Relaxation:
        """The relaxation itself."""
        return relaxation_named(self.relaxation)

    @property
    def kind(self) -> ArchitectKind:
        """What is known of the architect."""
        return architect_kind(self.architect)

    @property
    def knobs(self) -> Knobs:
        """What the architect is told besides."""
        return Knobs(self.order, self.mixed_weight, self.passes)

    def policy(self, supernet: nn.Module, keep: Sequence[int], candidates: Sequence[int], *, seed: int) -> BranchPolicy:
        """Return what decides which branches each layer runs: it keeps keep[l] of candidates[l]."""
        samples = self.samples_of(keep, candidates) if self.how.learns else keep
        return BranchPolicy(supernet, self.how, samples, keep, seed, temperature=self.temperatures, shrink=self.stages)

    def build(
        self,
        policy: BranchPolicy,
        timing: Timing,
        loader: Loader,
        objective: Objective,
        precision: Precision,
        *,
        world: World = SINGLE,
    ) -> tuple[StepHook, torch.optim.Optimizer]:
        """Return what moves the alphas of the policy's supernet, and their optimizer; `loader` gives held-out batches."""
        alphas = alpha_optimizer(
            policy.module,
            lr=self.alpha_lr or 0.0,
            betas=self.alpha_betas,
            weight_decay=self.alpha_weight_decay,
            update=self.update,
        )
        parts = Parts(policy, timing, loader, objective, alphas, precision, self.decays, world, self.alpha_lr is None)
        hook = self.kind.build(parts, self.knobs)
        check_hook(hook, self.kind)
        return hook, alphas

    def relaxation_at(self, progress: float) -> Relaxation:
        """The relaxation whose probabilities are those of the mixture that is trained at this share of the search."""
        return at_temperature(self.how, self.temperatures(progress))

    @property
    def temperatures(self) -> Schedule:
        """Temperature over the search."""
        return Schedule(self.temperature, self.temperature if self.temperature_end is None else self.temperature_end)

    @property
    def decays(self) -> Schedule:
        """Weight decay of the alphas over the search."""
        end = self.alpha_weight_decay_end
        return Schedule(self.alpha_weight_decay, self.alpha_weight_decay if end is None else end)

    @property
    def stages(self) -> tuple[Shrink, ...]:
        """Stages of progressive shrinking."""
        return read_shrink(self.shrink)

    def passes_of(self, keep: Sequence[int], candidates: Sequence[int]) -> int:
        """Return the training passes of one step in which alphas learn, or of one fair step."""
        return self.kind.passes(self.knobs, keep, candidates)

    def branches_per_step(self, keep: Sequence[int], candidates: Sequence[int]) -> int:
        """Return the branch scans of one training step over all layers and passes, before any branch is dropped."""
        return sum(self.branches_at_once(keep, candidates)) * self.passes_of(keep, candidates)

    def branches_over(self, epochs: int, keep: Sequence[int], candidates: Sequence[int]) -> int:
        """Return the branch scans of a step of every epoch of a search of so many, added up, as branches are dropped.

        Before alphas move, a step is one pass.
        """
        at_once, passes, total = self.branches_at_once(keep, candidates), self.passes_of(keep, candidates), 0
        for epoch in range(epochs):
            due = [stage.branches for stage in self.stages if epoch >= stage.progress * epochs]
            left = [min(n, max(due[-1], k)) for n, k in zip(at_once, keep, strict=True)] if due else at_once
            total += sum(left) * (passes if epoch >= self.alpha_warmup_epochs else 1)
        return total

    def branches_at_once(self, keep: Sequence[int], candidates: Sequence[int]) -> tuple[int, ...]:
        """Return the branches of each layer that one pass runs, before any is dropped."""
        if not self.kind.learns:
            return tuple(keep)
        return tuple(candidates) if self.how.pick is None else self.samples_of(keep, candidates)

    @property
    def train_loaders(self) -> int:
        """Loaders that a search reads at a time: that of the weights, and that of alphas which learn on held-out samples."""
        return 2 if self.kind.uses_holdout else 1

    def samples_of(self, keep: Sequence[int], candidates: Sequence[int]) -> tuple[int, ...]:
        """Return the branches per step of each layer: `samples`, or as many as the layer keeps, two at least."""
        fewest = min(candidates)
        if self.samples is None:
            return tuple(min(max(k, LEAST_SAMPLES), n) for k, n in zip(keep, candidates, strict=True))
        if not min(LEAST_SAMPLES, fewest) <= self.samples <= fewest:
            raise ConfigError(
                f"search.samples={self.samples} is not between {LEAST_SAMPLES} (one branch has none to be compared with) "
                f"and the {fewest} candidates of a layer"
            )
        return (self.samples,) * len(keep)


SINGLE_PATH = SearchOptions(  # shared weights: a step trains a few uniformly drawn branches per layer (SPOS, arXiv 1904.00420)
    relaxation="uniform", update="adam", architect=PATHS, order=1, mixed_weight=1.0, alpha_lr=0.0,
    alpha_betas=(0.9, 0.999), alpha_weight_decay=0.0, alpha_weight_decay_end=None, alpha_warmup_epochs=0, temperature=1.0,
    temperature_end=None, samples=None, shrink=(), passes=None,
)  # fmt: skip
