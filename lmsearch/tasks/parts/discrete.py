"""lmsearch search with search=random, local, evolution, tpe or nsga2: try architectures one by one and keep the best."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import optuna
import torch

from lmsearch.data import SearchLoaders, Source
from lmsearch.engine.objectives import Scores
from lmsearch.engine.randomness import key
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.side_by_side import Workers
from lmsearch.engine.state import RunState
from lmsearch.engine.train import Precision, evaluate
from lmsearch.engine.unfinished import Unfinished
from lmsearch.errors import ConfigError
from lmsearch.run_identity import run_digest
from lmsearch.scan.directions import former_names
from lmsearch.search.discrete.architectures import Architecture, ArchitectureSpace
from lmsearch.search.discrete.budget import Budget, evaluation_cost, training_cost
from lmsearch.search.discrete.costs import Flops, Latency
from lmsearch.search.discrete.evaluators import SharedWeights, StandAlone
from lmsearch.search.discrete.strategies import History, Strategy
from lmsearch.search.discrete.trials import METHODS, DiscreteSearch, build_strategy
from lmsearch.search.session import SearchSession
from lmsearch.search.supernet.options import SINGLE_PATH
from lmsearch.settings.search import Discrete, Supernet
from lmsearch.settings.tasks import Search
from lmsearch.status import Status
from lmsearch.tasks.parts.build import build_objective, build_precision, build_recipe
from lmsearch.tasks.parts.candidates import Candidates, find_candidates, search_data
from lmsearch.tasks.parts.discrete_results import Found, write_results
from lmsearch.tasks.parts.discrete_trials import Evaluator, explore
from lmsearch.tasks.parts.fit import keeping_of, train
from lmsearch.tasks.parts.memory import check_memory
from lmsearch.tasks.parts.page import leave_page, note_network
from lmsearch.tasks.parts.readers import settle_readers
from lmsearch.tasks.parts.restarts import note_start, starts_over
from lmsearch.tasks.parts.run_dir import claim_run_dir, folder_of
from lmsearch.tasks.parts.settle import settle
from lmsearch.trials.storage import open_storage, refuse_running

log = logging.getLogger(__name__)
INDETERMINATE = 3  # exit code with strict=true


def asked_for(search: Supernet | Discrete) -> bool:
    """Tell whether a search is a discrete one; raise ConfigError where method and preset do not belong together."""
    method, preset = search.method, isinstance(search, Discrete)
    if preset != (method in METHODS):
        needed = "fair or another preset of a supernet search" if method == "supernet" else method
        raise ConfigError(f"search.method={method} needs its own preset: search={needed}")
    return preset


def run(settings: Search) -> int:
    """Search, write genotype.json, trials.csv and the rest, and return 0 (3 when indeterminate and strict=true)."""
    check_options(settings)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    precision = build_precision(settings)
    settings, source = settle(settings, task="search")
    precision = replace(precision, micro_batch=settings.micro_batch)
    candidates = find_candidates(settings, source, budget=settings.budget)
    options = settings.discrete
    space = ArchitectureSpace.of(candidates.spec.directions, candidates.keep, fewest=options.fewest)
    storage = None if options.storage is None else open_storage(options.storage)  # a bad one is found before training
    identity = former_names([candidates.spec.directions, candidates.keep])
    strategy = build_strategy(options.method, population=options.population, tournament=options.tournament)
    workers = workers_of(settings, strategy, space)
    at_once = 1 if workers is None else workers.number
    settings = settle_readers(settings, source, precision.device, at_once=at_once)
    budget = Budget(options.budget_steps)
    training, price = costs(settings, candidates, source, precision)
    check_budget(budget, training, price)
    check_memory(settings.batch_size, candidates.spec, precision, running=candidates.keep, workers=at_once)
    name, folder = study_name(settings, identity), RunDir(folder_of(settings, "search"))
    starts_study_over(settings, storage, name, folder)  # refused, but for a race, before anything is deleted
    with claim_run_dir(settings, "search", identity, source=source) as run_dir:
        if storage is not None and starts_study_over(settings, storage, name, run_dir):
            start_study_over(storage, name, run_dir)
        note_network(run_dir, candidates.spec, source)
        unfinished = Unfinished.of(run_dir, run_digest(settings.content), every_s=settings.save_every_s)
        evaluator = build_evaluator(settings, run_dir, candidates, source, precision, unfinished=unfinished)
        budget.charge(training)
        search = DiscreteSearch(
            storage or open_storage(run_dir / "trials.journal"),
            name,
            space,
            strategy,
            seed=settings.seed,
            second=second_objective(settings, candidates, precision),
        )
        budget.charge(search.spent)
        if options.trials is not None and (done := len(search.trials())) > options.trials:
            log.warning("search.trials=%d: this search has %d already, all of which count", options.trials, done)
        if not budget.allows(0):
            log.warning("search.budget_steps=%g: this search has spent %g already", budget.total, budget.spent)
        metric = build_objective(source.info, settings.metric).metric
        explore(
            search, evaluator, budget, price=price, trials=options.trials, metric=metric, workers=workers, unfinished=unfinished
        )
        unfinished.remove()
        found = Found(search, candidates, metric, training, budget.spent)
        status = write_results(settings, run_dir, found)
    leave_page(run_dir)
    return INDETERMINATE if settings.strict and status == Status.INDETERMINATE else 0


def check_options(settings: Search) -> None:
    """Raise ConfigError for options that contradict each other; tell of those that have no effect."""
    search = settings.discrete
    if settings.budget is not None or settings.seeds != 1:
        given = f"budget={settings.budget}" if settings.budget is not None else f"seeds={settings.seeds}"
        raise ConfigError(f"{given} belongs to a supernet search; search={search.method} takes keep and one seed")
    if search.trials is None and search.budget_steps is None:
        raise ConfigError("search.trials and search.budget_steps are both null, so the search would never end; set one")
    if (search.method == "nsga2") != (search.objective2 is not None):
        raise ConfigError(
            f"search.method={search.method} with search.objective2={search.objective2 or 'null'}:"
            " nsga2 needs a second objective (flops or latency), and no other method takes one"
        )
    if search.method == "evolution" and search.tournament > search.population:
        raise ConfigError(f"search.tournament={search.tournament} is larger than search.population={search.population}")


def workers_of(settings: Search, strategy: Strategy, space: ArchitectureSpace) -> Workers | None:
    """Return what trains architectures side by side, None where they are evaluated one by one.

    Raises ConfigError for more than there is room for; tells where workers have no effect.
    """
    workers, search = Workers.asked_for(settings.workers, settings.threads, settings.device), settings.discrete
    if workers.number == 1:
        return None
    first = strategy.ahead(History(space, [], set()))
    if search.evaluate != "standalone" or first == 1:
        why = f"search={search.method} proposes each trial after the score of the one before"
        if search.evaluate != "standalone":
            why = f"search.evaluate={search.evaluate} trains one supernet; standalone trains every architecture"
        log.warning("workers=%d has no effect: %s", workers.number, why)
        return None
    if first < space.size:
        log.info("search=%s: trials run side by side where none depends on the score of another", search.method)
    return workers


def study_name(settings: Search, identity: object) -> str:
    """Return a name that only the same search has."""
    digest = f"{key(run_digest(settings.content), str(identity)):016x}"
    return f"lmsearch-{settings.discrete.method}-s{settings.seed}-{digest}"


def starts_study_over(settings: Search, storage: optuna.storages.BaseStorage | None, name: str, run_dir: RunDir) -> bool:
    """Tell whether a search starts over whose trials are in `storage`; raise InUseError where a process runs one of them."""
    if storage is None or not starts_over(run_dir, name, asked=settings.overwrite):
        return False
    if name in optuna.get_all_study_names(storage):
        refuse_running(optuna.load_study(study_name=name, storage=storage))
    return True


def start_study_over(storage: optuna.storages.BaseStorage, name: str, run_dir: RunDir) -> None:
    """Delete the trials that `storage` holds of a search, and write that down in its folder."""
    with suppress(KeyError):  # it holds none
        optuna.delete_study(study_name=name, storage=storage)
    note_start(run_dir, name)


def second_objective(settings: Search, candidates: Candidates, precision: Precision) -> Callable[[Architecture], float] | None:
    """Return what is to be small besides the score, or None."""
    if settings.discrete.objective2 is None:
        return None
    if settings.discrete.objective2 == "flops":
        return Flops(candidates.spec)
    return Latency(candidates.spec, precision, settings.discrete.latency_batch, settings.backend)


def costs(settings: Search, candidates: Candidates, source: Source, precision: Precision) -> tuple[float, float]:
    """Return the branch-scan steps of training shared weights (0 for none) and of evaluating one architecture."""
    branches = sum(candidates.keep)
    if settings.discrete.evaluate == "standalone":
        return 0.0, stand_alone(settings, candidates, source, precision).price(branches)
    loaders = search_data(settings, source, precision)
    price = evaluation_cost(loaders.holdout.num_samples, batch_size=settings.batch_size, branches=branches)
    return training_cost(settings.epochs * len(loaders.weights), branches), price


def stand_alone(settings: Search, candidates: Candidates, source: Source, precision: Precision) -> StandAlone:
    """Return what trains every architecture from scratch."""
    return StandAlone(
        candidates.spec,
        source,
        build_recipe(settings),
        precision,
        settings.seed,
        settings.backend,
        settings.readers,
        settings.metric,
    )


def build_evaluator(
    settings: Search,
    run_dir: RunDir,
    candidates: Candidates,
    source: Source,
    precision: Precision,
    *,
    unfinished: Unfinished | None = None,
) -> Evaluator:
    """Return what scores architectures; shared weights are trained first. Trainings that are stopped are kept in `unfinished`."""
    if settings.discrete.evaluate == "standalone":
        return replace(stand_alone(settings, candidates, source, precision), unfinished=unfinished)
    return train_shared(
        settings, run_dir, candidates, search_data(settings, source, precision, world=run_dir.world), source, precision
    )


def check_budget(budget: Budget, training: float, price: float) -> None:
    """Raise ConfigError where the budget does not pay for the shared weights and one evaluation."""
    if not budget.allows(training + price):
        shared = f"{training:g} for the shared weights and " if training else ""
        raise ConfigError(
            f"search.budget_steps={budget.total:g} pays for no trial: it takes {shared}{price:g} branch-scan steps for each;"
            " raise it, or lower epochs"
        )


def train_shared(
    settings: Search,
    run_dir: RunDir,
    candidates: Candidates,
    loaders: SearchLoaders,
    source: Source,
    precision: Precision,
) -> SharedWeights:
    """Train the supernet, every step on as many random branches per layer as it keeps, or continue where run_dir left off."""
    objective = build_objective(source.info, settings.metric)
    session = SearchSession.over(
        source, candidates.spec, loaders, build_recipe(settings), SINGLE_PATH, candidates.quota, derivation="climb",
        precision=precision, seed=settings.seed, backend=settings.backend, world=run_dir.world,
    )  # fmt: skip
    extra = {"relaxation": session.policy.relaxation.name}
    state = RunState(
        run_dir, session.parts(), spec=candidates.spec, run=run_digest(settings.content), extra=extra,
        keeping=keeping_of(settings),
    )  # fmt: skip
    train(
        settings, run_dir, session.trainer, state, loaders.weights, loaders.holdout, objective, title="shared weights",
        split="holdout", run=session.train,
    )  # fmt: skip

    def on_holdout(module: torch.nn.Module) -> Scores:
        return evaluate(module, loaders.holdout, objective, precision)

    return SharedWeights(session.trainer.result, on_holdout, objective, settings.batch_size, loaders.holdout.num_samples)
