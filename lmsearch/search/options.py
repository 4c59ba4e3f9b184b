"""The options of a supernet search as one value, checked together: contradictions are found before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from lmsearch.engine.objective import Objective
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError
from lmsearch.search.alpha_update import alpha_optimizer
from lmsearch.search.architect import Frozen, Timing, build_architect
from lmsearch.search.fair import Fair, passes_per_round
from lmsearch.search.policy import BranchPolicy, Schedule, Shrink, read_shrink
from lmsearch.search.relax import Relaxation, at_temperature
from lmsearch.search.relax import relaxation as relaxation_named

LEAST_SAMPLES = 2
PASSES = {"single": 1, "mixed": 2}  # of a training step in which alphas learn; of the others they depend on more
BILEVEL_PASSES = {1: 2, 2: 5}  # order 2: the look-ahead step, the held-out gradient at it, and two finite differences
SOFTMAXED = ("softmax", "gumbel", "sampled")  # relaxations whose probabilities are softmax(alphas)


@dataclass(frozen=True)
class SearchOptions:
    """How a supernet is searched: the keys of conf/search/, under the same names."""

    relaxation: str
    update: str
    architect: str
    order: int
    mixed_weight: float
    alpha_lr: float
    alpha_betas: Sequence[float]
    alpha_weight_decay: float
    alpha_weight_decay_end: float | None
    alpha_warmup_epochs: int
    temperature: float
    temperature_end: float | None
    samples: int | None
    shrink: Sequence[Sequence[float]]
    passes: int | None

    def __post_init__(self) -> None:
        how = relaxation_named(self.relaxation)
        named = f"search.relaxation={self.relaxation}"
        if how.learns == (self.architect == "fair"):
            raise ConfigError(
                f"{named} with search.architect={self.architect}: relaxation=uniform and architect=fair, under which no alphas"
                " learn, only go together (search=fair)"
            )
        if not how.learns:
            self._check_fair()
            return
        if self.passes is not None:
            raise ConfigError(f"search.passes={self.passes} needs search=fair; with alphas the architect says how many there are")
        if self.update != "adam" and self.relaxation not in SOFTMAXED:
            raise ConfigError(f"search.update={self.update} moves probabilities that are softmax(alphas); {named} has others")
        if self.update != "adam" and (self.temperature, self.temperature_end or 1.0) != (1.0, 1.0):
            raise ConfigError(f"search.update={self.update} takes its step at temperature 1, not {self.temperature}")
        if self.samples is not None and how.pick is None:
            raise ConfigError(f"search.samples={self.samples}: {named} runs every branch; samples need gumbel or sampled")
        if self.order != 1 and self.architect != "bilevel":
            raise ConfigError(f"search.order={self.order} needs search.architect=bilevel, not {self.architect}")
        if self.mixed_weight != 1.0 and self.architect != "mixed":
            raise ConfigError(f"search.mixed_weight={self.mixed_weight} needs search.architect=mixed, not {self.architect}")
        tempered = self.temperature != 1.0 or self.temperature_end not in (None, 1.0)
        if tempered and self.relaxation == "dirichlet":
            raise ConfigError(f"search.temperature={self.temperature}: {named} has no temperature")
        if not 0 < self.temperature or (self.temperature_end is not None and not 0 < self.temperature_end):
            raise ConfigError(f"search.temperature={self.temperature} and its end must be above 0")

    def _check_fair(self) -> None:
        """Raise ConfigError for options that only mean something where alphas learn."""
        plain = {
            "shrink": [], "samples": None, "alpha_warmup_epochs": 0, "update": "adam", "order": 1, "mixed_weight": 1.0,
            "temperature": 1.0, "temperature_end": None, "alpha_weight_decay": 0.0, "alpha_weight_decay_end": None,
        }  # fmt: skip
        for name, nothing in plain.items():
            value = getattr(self, name)
            if (list(value) if name == "shrink" else value) != nothing:
                raise ConfigError(f"search.{name}={value} has no meaning with search.architect=fair, which learns no alphas")

    def over(self, epochs: int, *, of: int) -> SearchOptions:
        """Return these options for a search of other epochs than `of`; the alphas' warm-up keeps its share of them."""
        return replace(self, alpha_warmup_epochs=self.alpha_warmup_epochs * epochs // of)

    @property
    def how(self) -> Relaxation:
        """The relaxation itself."""
        return relaxation_named(self.relaxation)

    def policy(self, supernet: nn.Module, keep: Sequence[int], candidates: Sequence[int], *, seed: int) -> BranchPolicy:
        """Return what decides which branches each layer runs: it keeps keep[l] of candidates[l]."""
        samples = self.samples_of(keep, candidates) if self.how.learns else keep
        return BranchPolicy(supernet, self.how, samples, keep, seed, temperature=self.temperatures, shrink=self.stages)

    def build(
        self, policy: BranchPolicy, timing: Timing, loader: object, objective: Objective, precision: Precision
    ) -> tuple[Frozen, torch.optim.Optimizer]:
        """Return what moves the alphas of the policy's supernet, and their optimizer; `loader` gives held-out batches."""
        alphas = alpha_optimizer(
            policy.module,
            lr=self.alpha_lr,
            betas=self.alpha_betas,
            weight_decay=self.alpha_weight_decay,
            update=self.update,
        )
        if self.architect == "fair":
            return Fair(policy, timing, self.passes), alphas
        architect = build_architect(
            self.architect,
            policy,
            timing,
            loader,
            objective,
            alphas,
            precision,
            order=self.order,
            mixed_weight=self.mixed_weight,
            decay=self.decays,
        )
        return architect, alphas

    def judged(self, progress: float) -> Relaxation:
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
        if self.architect == "fair":
            whole = passes_per_round(keep, candidates)
            if self.passes is not None and self.passes > whole:
                raise ConfigError(f"search.passes={self.passes}: {whole} give every branch its turn; accepted: 1 to {whole}")
            return self.passes or whole
        return BILEVEL_PASSES[self.order] if self.architect == "bilevel" else PASSES[self.architect]

    def branches_per_step(self, keep: Sequence[int], candidates: Sequence[int]) -> int:
        """Return the branch scans of one training step over all layers and passes, before any branch is dropped."""
        if self.architect == "fair":
            run = keep
        else:
            run = candidates if self.how.pick is None else self.samples_of(keep, candidates)
        return sum(run) * self.passes_of(keep, candidates)

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
