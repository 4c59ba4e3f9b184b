"""The arms of the race: each may spend the same number of branch-scan steps and returns the architecture that it would ship.

What counts is the test score of the shipped network; every choice before that is made on validation scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.e3_scanbench.scores import options_of, supernet
from experiments.e3_scanbench.tasks import BenchTask
from lmsearch.data import Source, spread
from lmsearch.engine.randomness import key
from lmsearch.scanbench.spaces import Space, in_candidate_order
from lmsearch.search.derivation.choice import kept
from lmsearch.search.derivation.climb import expected_choices
from lmsearch.search.derivation.kinds import derivation_kind
from lmsearch.search.derivation.perturbation import branches_run
from lmsearch.search.discrete.architectures import Architecture, ArchitectureSpace
from lmsearch.search.discrete.budget import EVALUATION_SHARE, evaluation_cost, training_cost
from lmsearch.search.discrete.optuna_strategies import tpe
from lmsearch.search.discrete.strategies import Evolution, History, LocalSearch, RandomSearch, Strategy, Tried
from lmsearch.search.supernet.options import SINGLE_PATH

HAND_MADE = {  # directions of every layer, by how many a layer keeps
    1: (("h",), ("v",)),
    2: (("h", "h_flip"), ("h", "v")),
    4: (("h", "h_flip", "v", "v_flip"), ("h", "h_flip", "w2", "w2_flip")),
}
SEARCHES = {"softmax": ("search=darts",), "sampled": ("search=sampled",), "drnas": ("search=drnas",)}
DOMINANCE = ("search=fair", "search.dominance=0.01")  # masking, or alphas where one direction dominates
SHARED_TRIES = 32  # random architectures that the arm with weight sharing masks, on all held-out samples
CLIMB_SHARE = 4  # local search on shared weights masks so many times more architectures on as many times fewer samples
DERIVING_EPOCHS = 1  # of a supernet's training, given up to pay for derivation by masking
POPULATION, TOURNAMENT = 3, 2  # of evolution, which has few evaluations; TPE starts from as many random ones
Judge = Callable[[Architecture, int], tuple[float, float]]


@dataclass(frozen=True)
class Arena:
    """One instance of the race. `judge(architecture, run)` trains it with the run's seed: (validation, test) score.

    `seed` keys every proposal and every supernet: no two rows have the same one.
    """

    task: BenchTask
    source: Source
    space: Space
    seed: int
    judge: Judge

    @property
    def steps(self) -> int:
        """Training steps of one network."""
        return self.task.recipe.epochs * self.source.train.steps_per_epoch

    @property
    def branches(self) -> int:
        """Branches of a derived network."""
        return self.space.depth * self.space.keep

    @property
    def alone_cost(self) -> float:
        """Branch-scan steps of training and validating one derived network."""
        samples, batch = self.source.val.epoch_size(1), self.task.recipe.batch_size
        return training_cost(self.steps, self.branches) + evaluation_cost(samples, batch_size=batch, branches=self.branches)

    @property
    def budget(self) -> float:
        """What every arm may spend: a full supernet trained as long as one network, and that network."""
        whole = self.space.depth * len(self.space.candidates)
        return training_cost(self.steps, whole) + self.alone_cost

    @property
    def evaluations(self) -> int:
        """Networks that the budget trains from scratch."""
        return int(self.budget // self.alone_cost)


def stand_alone(arena: Arena, strategy: Strategy) -> tuple[Architecture, float]:
    """Train what the strategy proposes and ship the best validated network."""
    tests: dict[Architecture, float] = {}

    def judge(architecture: Architecture, run: int) -> float:
        val, tests[architecture] = arena.judge(architecture, run)
        return val

    best = best_of(arena, strategy, judge, tries=arena.evaluations, stream="proposal")
    return best, tests[best]


def best_of(
    arena: Arena, strategy: Strategy, score: Callable[[Architecture, int], float], *, tries: int, stream: str
) -> Architecture:
    """Return the best scored of what the strategy proposes; `stream` names its random draws."""
    depth = arena.space.depth
    space = ArchitectureSpace.of((arena.space.candidates,) * depth, (arena.space.keep,) * depth)
    tried: list[Tried] = []
    for number in range(min(tries, space.size)):
        history = History(space, tried, {one.architecture for one in tried})
        proposed = strategy.propose(history, np.random.default_rng(key(arena.seed, stream, number)))
        tried.append(Tried(proposed, score(proposed, number)))
    return max(tried, key=lambda one: one.score).architecture


def hand_made(arena: Arena) -> tuple[Architecture, float]:
    """Train the hand-made sets and ship the best validated one."""
    layers = HAND_MADE[arena.space.keep]
    if arena.space.keep == 1:  # rows then columns, and rows twice
        sets: Sequence[Architecture] = (layers, (layers[0],) * arena.space.depth)
    else:
        sets = [in_candidate_order((names,) * arena.space.depth) for names in layers]
    judged = [(arena.judge(architecture, number), architecture) for number, architecture in enumerate(sets)]
    (_, test), best = max(judged, key=lambda one: one[0][0])
    return best, test


def searched(arena: Arena, words: Sequence[str]) -> tuple[Architecture, float]:
    """Search with a supernet for what is left of the budget after retraining, derive, train the result and ship it."""
    options = options_of(*words)
    candidates = [len(arena.space.candidates)] * arena.space.depth
    per_step = options.branches_per_step((arena.space.keep,) * arena.space.depth, candidates)
    epochs = epochs_for(arena, arena.budget - arena.alone_cost, per_step)
    found = supernet(arena.task, arena.source, arena.space, arena.seed, options=options, epochs=epochs)
    derived = kept(found.derive()[0])
    return derived, arena.judge(derived, 0)[1]


def by_masking(arena: Arena, preset: str, derivation: str, samples: int) -> tuple[Architecture, float]:
    """Search for one epoch less than `softmax`, which pays for held-out passes of so many samples; derive, train and ship."""
    epochs = arena.task.recipe.epochs - DERIVING_EPOCHS
    options = options_of(preset)
    found = supernet(arena.task, arena.source, arena.space, arena.seed, options=options, derivation=derivation, epochs=epochs)
    derived = kept(found.derive(samples=samples)[0])
    return derived, arena.judge(derived, 0)[1]


def both_regimes(arena: Arena) -> tuple[Architecture, float]:
    """Search as `fair` does, and look whether one direction does all the work: there alphas decide, and no climb follows.

    What the looks took is paid for by fewer samples of the climb.
    """
    epochs, options = arena.task.recipe.epochs - DERIVING_EPOCHS, options_of(*DOMINANCE)
    found = supernet(arena.task, arena.source, arena.space, arena.seed, options=options, derivation="climb", epochs=epochs)
    whole = training_cost(epochs * arena.source.train.steps_per_epoch, arena.space.depth * len(arena.space.candidates))
    samples = None if found.policy.dominant else climbing_samples(arena, spent=found.cost - whole)
    derived = kept(found.derive(samples=samples)[0])
    return derived, arena.judge(derived, 0)[1]


def climbing_samples(arena: Arena, *, spent: float = 0.0) -> int:
    """Return the held-out samples per masked choice that the given-up epochs pay for, were it to take as many as expected.

    So many branch-scan steps of theirs are `spent` already.
    """
    choices = expected_choices(*quotas(arena.space))
    return min(paid_samples(arena, choices * arena.branches, spent=spent), arena.source.val.epoch_size(1))


def halving_samples(arena: Arena) -> int:
    """Return the held-out samples for halving that take it through as many of one choice, on average, as the climb is paid."""
    paid, kind = climbing_samples(arena), derivation_kind("halving")
    return max(n for n in range(paid, arena.source.val.epoch_size(1) + 1) if kind.looked_at(n, *quotas(arena.space)) <= paid)


def deriving_samples(arena: Arena) -> int:
    """Return the held-out samples per pass of derivation by perturbation that the given-up epochs pay for."""
    return paid_samples(arena, branches_run(*quotas(arena.space)))


def quotas(space: Space) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how many directions every layer keeps, and how many candidates it has."""
    return (space.keep,) * space.depth, (len(space.candidates),) * space.depth


def paid_samples(arena: Arena, branches: int, *, spent: float = 0.0) -> int:
    """Return how many samples the given-up epochs, of which so much is `spent`, pay for, each through so many branches."""
    whole = arena.space.depth * len(arena.space.candidates)
    paid = training_cost(DERIVING_EPOCHS * arena.source.train.steps_per_epoch, whole)
    return int((paid - spent) * arena.task.recipe.batch_size / (branches * EVALUATION_SHARE))


def weight_sharing(arena: Arena, strategy: Strategy, *, share: int) -> tuple[Architecture, float]:
    """Train shared weights on random branches, mask what the strategy proposes, train the best one from scratch and ship it.

    SHARED_TRIES * share architectures are masked, each on one of `share` parts of the held-out samples, spread over all.
    """
    held, batch = arena.source.val.epoch_size(1), arena.task.recipe.batch_size
    masking = SHARED_TRIES * evaluation_cost(held, batch_size=batch, branches=arena.branches)
    epochs = epochs_for(arena, arena.budget - arena.alone_cost - masking, arena.branches)
    found = supernet(arena.task, arena.source, arena.space, arena.seed, options=SINGLE_PATH, epochs=epochs)
    shared = found.shared([spread(found.loaders.holdout, held // share)])
    best = best_of(arena, strategy, lambda a, _: shared(a).score, tries=SHARED_TRIES * share, stream="masked")
    return best, arena.judge(best, 0)[1]


def epochs_for(arena: Arena, budget: float, per_step: int) -> int:
    """Return the epochs that fit into a budget at so many branches per step: at least one."""
    return max(1, int(budget / per_step / arena.source.train.steps_per_epoch + 1e-9))


ARMS: dict[str, Callable[[Arena], tuple[Architecture, float]]] = {
    "random": lambda arena: stand_alone(arena, RandomSearch()),
    "random, shared weights": lambda arena: weight_sharing(arena, RandomSearch(), share=1),
    "local, shared weights": lambda arena: weight_sharing(arena, LocalSearch(), share=CLIMB_SHARE),
    "hand-made": hand_made,
    "evolution": lambda arena: stand_alone(arena, Evolution(POPULATION, TOURNAMENT)),
    "tpe": lambda arena: stand_alone(arena, tpe(startup=POPULATION)),
    "fair": lambda arena: by_masking(arena, "search=fair", "climb", climbing_samples(arena)),
    "fair, dominance": both_regimes,
    "halving": lambda arena: by_masking(arena, "search=fair", "halving", halving_samples(arena)),
    "softmax": lambda arena: searched(arena, SEARCHES["softmax"]),
    "softmax, perturbation": lambda arena: by_masking(arena, "search=darts", "perturbation", deriving_samples(arena)),
    "sampled": lambda arena: searched(arena, SEARCHES["sampled"]),
    "drnas": lambda arena: searched(arena, SEARCHES["drnas"]),
}
