"""One search of a supernet: train it, derive from it, train the supernets of its recheck, and say how sure the choice is.

Commands keep what a session does in files; audits, studies and notebooks run it in memory. Both get the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from hashlib import sha256

import torch
from torch import nn

from lmsearch.data import SearchLoaders, Source, spread
from lmsearch.data.batch import Batch
from lmsearch.data.info import HeldOut
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.loop import Saved, run_epochs
from lmsearch.engine.objectives import Objective, Scores, objective_for
from lmsearch.engine.randomness import key
from lmsearch.engine.recipe import Goal, Recipe, goal_of, trainer_for
from lmsearch.engine.state import BEGINNING, Position, Stateful
from lmsearch.engine.train import Precision, Trainer, evaluate
from lmsearch.genotype import LayerChoice
from lmsearch.search.architects.learning import Timing
from lmsearch.search.derivation import dominance
from lmsearch.search.derivation.choice import Probabilities, Quota, planned
from lmsearch.search.derivation.kinds import Derived, by_alphas, derivation_kind, unseen_part
from lmsearch.search.derivation.marginal import marginal_worth
from lmsearch.search.discrete.budget import evaluation_cost, training_cost
from lmsearch.search.discrete.evaluators import SharedWeights
from lmsearch.search.supernet.network import named_mixers, probabilities, running, weight_parameters
from lmsearch.search.supernet.options import SINGLE_PATH, SearchOptions
from lmsearch.search.supernet.policy import BranchPolicy
from lmsearch.search.supernet.relax import Relaxation
from lmsearch.search.trained import QUICK_SAMPLES, Trained
from lmsearch.search.trust.detectors import check_disjoint
from lmsearch.search.trust.health import NUM_RANDOM, Health
from lmsearch.search.trust.recheck import SUPERNETS, fresh_seeds, recheck_recipe


@dataclass
class Cost:
    """What training took so far, in branch-scan steps; a part of the training state."""

    steps: float = 0.0

    def state_dict(self) -> dict[str, float]:
        """Return it by name."""
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Take over what state_dict returned."""
        self.steps = state_dict["steps"]


@dataclass
class SearchSession:
    """One search, from fresh weights to a verdict. Everything random in it follows from `seed`.

    `build` makes the supernet, whose mixers hold the candidates. `loaders.weights` trains it, `loaders.alphas` trains alphas,
    `loaders.holdout` is what the choice is made on, and `unseen` what it is tested on (None: nothing tests it). `goal` is what
    is trained for, `objective` what choice and verdict go by. `recheck_share` is the share of the steps in which each of the
    recheck's supernets trains every direction (0: no recheck). The processes of `world` train one supernet together, and share
    all batches.
    `taken` counts what training took; `dropped` are the directions that the last epoch
    dropped, `found` is the one that dominates since then.
    """

    build: Callable[[], nn.Module]
    loaders: SearchLoaders
    recipe: Recipe
    options: SearchOptions
    quota: Quota
    _: KW_ONLY
    derivation: str
    unseen: HeldOut | None
    goal: Goal
    objective: Objective
    precision: Precision
    seed: int
    recheck_share: float = 0.0
    world: World = SINGLE
    candidates: tuple[int, ...] = field(init=False)  # of each layer
    keep: tuple[int, ...] = field(init=False)  # directions that each layer is expected to keep
    policy: BranchPolicy = field(init=False)
    timing: Timing = field(init=False)
    trainer: Trainer = field(init=False)
    alpha_optimizer: torch.optim.Optimizer = field(init=False)
    dropped: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False)
    found: str = field(default="", init=False)
    taken: Cost = field(default_factory=Cost, init=False)

    @classmethod
    def over(
        cls,
        source: Source,
        spec: ModelSpec,
        loaders: SearchLoaders,
        recipe: Recipe,
        options: SearchOptions,
        quota: Quota,
        *,
        derivation: str,
        precision: Precision,
        seed: int,
        recheck_share: float = 0.0,
        metric: str | None = None,
        backend: str = "auto",
        world: World = SINGLE,
    ) -> SearchSession:
        """Return the session over a data source of the supernet that `spec` describes: its directions are the candidates."""
        return cls(
            partial(spec.build, backend=backend), loaders, recipe, options, quota, derivation=derivation,
            unseen=unseen_part(loaders, derivation, options.architect), goal=goal_of(recipe, source.info, loaders.weights),
            objective=objective_for(source.info.target, metric=metric), precision=precision, seed=seed,
            recheck_share=recheck_share, world=world,
        )  # fmt: skip

    def __post_init__(self) -> None:
        torch.manual_seed(key(self.seed, "init"))
        supernet = self.build().to(self.precision.device)
        self.candidates = tuple(len(mixer.directions) for mixer in named_mixers(supernet).values())
        self.keep = planned(self.quota, self.candidates)
        self.policy = self.options.policy(supernet, self.keep, self.candidates, seed=self.seed)
        steps = len(self.loaders.weights)
        self.timing = Timing(steps, self.recipe.epochs, self.options.alpha_warmup_epochs)
        architect, self.alpha_optimizer = self.options.build(
            self.policy, self.timing, self.loaders.alphas, self.goal.objective, self.precision, world=self.world
        )
        self.trainer = trainer_for(
            self.recipe, supernet, weight_parameters(supernet), self.goal, self.precision, steps_per_epoch=steps, seed=self.seed,
            hook=architect, beside=self.alpha_optimizer if self.may_learn else None, world=self.world,
        )  # fmt: skip
        check_disjoint(optimised(self.trainer.optimizer), optimised(self.alpha_optimizer))

    def steps_beside_training(self, epoch: int) -> float:
        """What comes beside the training steps from `epoch` on, in such steps, about: looks, derivation, checks, recheck.

        Checks may well end sooner.
        """
        held, size, kept = self.loaders.holdout.num_samples, self.recipe.batch_size, sum(self.keep)
        kind = derivation_kind(by_alphas(self.derivation, self.policy.dominant))
        cost = kind.cost(self.keep, self.candidates, held=held, batch_size=size)
        if self.options.dominance is not None and not self.policy.dominant:
            cost += dominance.steps_of_looks(
                epoch, self.recipe.epochs, keep=self.keep, candidates=self.candidates, held=held, batch=size
            )
        if self.unseen is not None:
            supernets = 1 if self.recheck_share == 0 else 1 + SUPERNETS
            looked = supernets * (1 + NUM_RANDOM) * kept
            cost += evaluation_cost(self.unseen.num_samples, batch_size=size, branches=looked)
        if self.recheck_share > 0:
            cost += SUPERNETS * training_cost(self.recheck_recipe.epochs * len(self.loaders.weights), kept)
        return cost / self.options.branches_per_step(self.keep, self.candidates)

    @property
    def recheck_recipe(self) -> Recipe:
        """The recipe of the supernets of the recheck."""
        return recheck_recipe(self.recipe, self.recheck_share, candidates=sum(self.candidates), keep=sum(self.keep))

    @property
    def supernet(self) -> nn.Module:
        """The network that holds all candidates."""
        return self.policy.module

    @property
    def cost(self) -> float:
        """What training took, in branch-scan steps."""
        return self.taken.steps

    def parts(self) -> dict[str, Stateful]:
        """Return what the training of the weights remembers from step to step, by name."""
        return self.trainer.parts() | self.own_parts()

    def own_parts(self) -> dict[str, Stateful]:
        """Return what it remembers beside its trainer."""
        return {"policy": self.policy, "cost": self.taken}

    @property
    def learns(self) -> bool:
        """True where alphas learn."""
        return self.policy.relaxation.learns

    @property
    def may_learn(self) -> bool:
        """True where alphas learn or may yet do so."""
        return self.learns or self.options.dominance is not None

    def train(
        self,
        *,
        start: Position = BEGINNING,
        state: Saved | None = None,
        on_step: Callable[[int, Scores], None] | None = None,
        on_epoch: Callable[[int, Scores], None] | None = None,
    ) -> None:
        """Train weights and alphas from `start` to the end; the arguments are those of engine.loop.run_epochs."""

        def follow(epoch: int, scores: Scores) -> None:
            """Count the branches of the step; all of its passes run as many."""
            branches = sum(len(draw.picked) for draw in self.policy.draws.values())
            passes = 1 if self.policy.dominant else self.options.passes_of(self.keep, self.candidates)
            self.taken.steps += branches * (passes if self.timing.warm(epoch) else 1)
            if on_step is not None:
                on_step(epoch, scores)

        def end(epoch: int, seen: Scores) -> None:
            """Drop what shrinking drops after this epoch."""
            self.dropped = self.policy.end_epoch(self.timing.progress(epoch + 1, 0))
            self.look_for_dominance(epoch)
            if on_epoch is not None:
                on_epoch(epoch, seen)

        weights, alphas = self.loaders.weights, self.loaders.alphas
        with self.policy.attached(), closing(weights), closing(alphas):
            run_epochs(self.trainer, weights, epochs=self.recipe.epochs, start=start, on_step=follow, on_epoch=end, state=state)

    def look_for_dominance(self, epoch: int) -> None:
        """Let alphas learn from now on where, after this epoch, one direction does all the work."""
        level, self.found = self.options.dominance, ""
        if level is None or self.policy.dominant or not dominance.due(epoch, self.recipe.epochs):
            return
        batch = spread(self.loaders.holdout, dominance.SAMPLES)
        choices = dominance.random_choices(self.supernet, self.keep, seed=self.seed, look=epoch)
        found = dominance.dominant(self.supernet, self.trained.on([batch]), choices, level=level)
        looked = len(choices) * sum(self.keep)
        self.taken.steps += evaluation_cost(len(batch.indices), batch_size=self.recipe.batch_size, branches=looked)
        self.world.assert_same(sha256((found or "").encode()).hexdigest(), what="the direction that dominates")
        if found is not None:
            self.found = found
            self.policy.follow_alphas(found)

    def scores_on(self, batches: Iterable[Batch]) -> Scores:
        """Return the scores, while it trains, of the mixture that alphas weigh or, without alphas, of what ran last."""
        if self.learns:
            return evaluate(self.supernet, batches, self.objective, self.precision)
        with running(self.supernet, self.policy.last()):
            return evaluate(self.supernet, batches, self.objective, self.precision)

    def probabilities(self, progress: float = 1.0) -> Probabilities:
        """Return every layer's probability of every direction in the mixture of this share of the search."""
        return probabilities(self.supernet, self.relaxation_at(progress))

    def relaxation_at(self, progress: float) -> Relaxation:
        """The relaxation whose probabilities are those of the mixture of this share of the search."""
        return self.policy.relaxation if self.policy.dominant else self.options.relaxation_at(progress)

    def probabilities_after(self, epoch: int) -> Probabilities:
        """Return the probabilities when `epoch`, counted from 0, is done."""
        return self.probabilities(self.timing.progress(epoch + 1, 0))

    def worth(self) -> dict[str, dict[str, float]]:
        """Return what every direction of every layer is worth so far, on a few held-out samples: see marginal_worth."""
        few = self.trained.on([spread(self.loaders.holdout, QUICK_SAMPLES)])
        return marginal_worth(self.supernet, few, self.keep, seed=self.seed)

    @property
    def trained(self) -> Trained:
        """The supernet as it is now, to derive from and to test."""
        return Trained(
            self.supernet, self.relaxation_at(1.0), by_alphas(self.derivation, self.policy.dominant), self.quota,
            self.loaders.holdout, self.unseen, self.objective, self.precision, self.seed, dominant=self.policy.dominant,
        )  # fmt: skip

    def derive(self, *, samples: int | None = None) -> Derived:
        """Return each layer's choice and how it was made; `samples` as in Trained.derive."""
        return self.trained.derive(samples=samples)

    def health(self, choices: Sequence[LayerChoice]) -> Health:
        """Return how sure these choices are; the recheck's supernets are trained where they can still decide something."""
        return self.trained.health(choices, fresh=self.recheck())

    def recheck(self, train: Callable[[int, SearchSession], None] | None = None) -> Iterator[nn.Module]:
        """Train and yield the supernets of the recheck, one after the other; `train(number, session)` may do it otherwise."""
        for number, session in enumerate(self.fresh()):
            if train is None:
                session.train()
            else:
                train(number, session)
            yield session.supernet

    def fresh(self) -> Iterator[SearchSession]:
        """Yield the untrained sessions of the recheck: supernets whose directions are all trained alike, without alphas."""
        if self.recheck_share == 0:
            return
        recipe = self.recheck_recipe
        for seed in fresh_seeds(self.seed):
            yield replace(self, options=SINGLE_PATH, recipe=recipe, seed=seed, recheck_share=0.0)

    def shared(self, few: Sequence[Batch] | None = None) -> SharedWeights:
        """Return what scores architectures by masking the supernet on the held-out samples, or on a few batches of them."""
        held: Iterable[Batch] = self.loaders.holdout if few is None else few
        number = self.loaders.holdout.num_samples if few is None else sum(len(batch[0]) for batch in few)
        return SharedWeights(self.supernet, self.trained.on(held), self.objective, self.recipe.batch_size, number)


def optimised(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return the parameters that an optimizer moves."""
    return [p for group in optimizer.param_groups for p in group["params"]]
