"""lmsearch search: train a supernet over scan directions, derive a genotype and say how sure the search is."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from lmsearch import __version__
from lmsearch.config_values import literal
from lmsearch.data import SearchLoaders, Source
from lmsearch.engine.log import RunLog
from lmsearch.engine.loop import run_epochs
from lmsearch.engine.objective import Metric, Objective, Scores
from lmsearch.engine.progress import TrainingProgress
from lmsearch.engine.randomness import key
from lmsearch.engine.recipe import build_trainer, training_objective
from lmsearch.engine.state import RunState
from lmsearch.engine.train import Batch, Precision, Trainer, evaluate
from lmsearch.errors import ConfigError
from lmsearch.genotype import Genotype
from lmsearch.run_identity import run_digest
from lmsearch.scan.directions import label
from lmsearch.search.architects.learning import Timing
from lmsearch.search.derivation.kinds import derivation_kind
from lmsearch.search.supernet.network import probabilities, running, weight_parameters
from lmsearch.search.supernet.options import SearchOptions
from lmsearch.search.supernet.policy import BranchPolicy, read_shrink
from lmsearch.search.trust.detectors import check_disjoint
from lmsearch.status import Status
from lmsearch.tasks.parts import discrete
from lmsearch.tasks.parts.build import build_objective, build_precision, build_recipe
from lmsearch.tasks.parts.candidates import Candidates, find_candidates, search_data
from lmsearch.tasks.parts.conclude import Order, conclude, conclude_seeds, show
from lmsearch.tasks.parts.memory import check_memory
from lmsearch.tasks.parts.recheck import trained_supernets
from lmsearch.tasks.parts.run_dir import claim_run_dir
from lmsearch.tasks.parts.settle import settle
from lmsearch.tasks.parts.watch import epoch_findings

log = logging.getLogger(__name__)
NOT_OK = 3  # exit code with strict=true


@dataclass(frozen=True)
class Plan(Candidates):
    """What will be searched, and the options that say how."""

    options: SearchOptions

    @property
    def running(self) -> tuple[int, ...]:
        """Branches of each layer that run at a time."""
        return self.options.branches_at_once(self.keep, [len(layer) for layer in self.spec.directions])


def run(cfg: DictConfig) -> int:
    """Search, write genotype.json and its figure, and return 0 (3 unless it is ok, with strict=true)."""
    if discrete.asked_for(cfg):
        return discrete.run(cfg)
    precision = build_precision(cfg)
    cfg, source = settle(cfg, task="search")
    plan = make_plan(cfg, source)
    check_memory(cfg, plan.spec, precision, running=plan.running)
    search_data(cfg, source, precision)  # a split that cannot be made is found before anything is written
    with claim(cfg, plan) as run_dir:
        if cfg.seeds == 1:
            genotype = search_once(cfg, run_dir, plan, source, precision)
        else:
            genotype = search_seeds(cfg, run_dir, plan, source, precision)
    show(run_dir, genotype)
    return NOT_OK if cfg.strict and genotype.health["status"] != Status.OK else 0


def claim(cfg: DictConfig, plan: Plan) -> AbstractContextManager[Path]:
    """Give the block the run directory of one search, or of a search over several seeds."""
    content = [plan.spec.directions, plan.quota.keep, plan.quota.budget, cfg.seeds > 1]
    parts = [] if cfg.seeds == 1 else [part_of(seed) for seed in seeds_of(cfg)]
    return claim_run_dir(cfg, "search", content, parts=parts)


def seeds_of(cfg: DictConfig) -> range:
    """Return the seeds of a search."""
    return range(cfg.seed, cfg.seed + cfg.seeds)


def part_of(seed: int) -> str:
    """Return the name of the folder of one seed of several."""
    return f"s{seed}"


def search_seeds(cfg: DictConfig, run_dir: Path, plan: Plan, source: Source, precision: Precision) -> Genotype:
    """Search with cfg.seeds seeds, each a run of its own in s<seed>/, and return what they agree on."""
    genotypes = []
    for seed in seeds_of(cfg):
        seeded = OmegaConf.merge(cfg, {"seed": seed, "seeds": 1})
        seeded.run_dir = literal(str(run_dir / part_of(seed)))
        with claim(seeded, plan) as folder:
            genotypes.append(search_once(seeded, folder, plan, source, precision))
        print(f"seed {seed}: {genotypes[-1].health['status']}: {genotypes[-1].health['reason']}")
    return conclude_seeds(run_dir, plan.quota, genotypes)


def search_once(cfg: DictConfig, run_dir: Path, plan: Plan, source: Source, precision: Precision) -> Genotype:
    """Search with one seed and return the genotype, which is also in run_dir."""
    loaders = search_data(cfg, source, precision)
    torch.manual_seed(key(cfg.seed, "init"))
    supernet = plan.spec.build(backend=cfg.backend).to(precision.device)
    policy = plan.options.policy(supernet, plan.keep, [len(layer) for layer in plan.spec.directions], seed=cfg.seed)
    provenance = {"lmsearch": __version__, "run_sha256": run_digest(cfg), "seed": cfg.seed, "epoch": cfg.epochs}
    with policy.attached():
        train(cfg, run_dir, plan, policy, loaders, source, precision)
        scores = probabilities(supernet, plan.options.judged(1.0))
        order = Order(
            scores, plan.quota, cfg.search.derivation, plan.spec, plan.space.name, cfg.seed, provenance, history=run_dir,
            architect=cfg.search.architect, metric=cfg.metric,
        )  # fmt: skip
        fresh = trained_supernets(cfg, run_dir, plan, loaders, source)
        return conclude(run_dir, order, supernet, loaders, source, precision, fresh=fresh)


def make_plan(cfg: DictConfig, source: Source) -> Plan:
    """Put search space, model and options together; every mistake in them is found here, before anything is written."""
    found = find_candidates(cfg, source)
    plan = Plan(found.spec, found.space, found.quota, search_options(cfg))
    check_plan(plan, epochs=cfg.epochs, derivation=cfg.search.derivation)
    if cfg.precision == "fp16" and not plan.options.kind.fp16:
        how = plan.options.architect
        raise ConfigError(f"precision=fp16 with search.architect={how}: held-out gradients would underflow; use bf16")
    return plan


def check_plan(plan: Plan, *, epochs: int, derivation: str) -> None:
    """Raise ConfigError where samples, stages of shrinking, derivation or the alphas' warm-up do not fit."""
    plan.options.branches_per_step(plan.keep, [len(layer) for layer in plan.spec.directions])
    stages, warm = read_shrink(plan.options.shrink), plan.options.alpha_warmup_epochs
    if stages and stages[0].progress * epochs <= warm:
        raise ConfigError(
            f"search.shrink drops branches at {stages[0].progress:g} of the search, when with search.alpha_warmup_epochs={warm}"
            f" of {epochs} their alphas have not learned yet; drop them later"
        )
    kind, architect = derivation_kind(derivation), plan.options.kind
    if not architect.learns and kind.needs_alphas:
        given = f"search.derivation={derivation} with search.architect={architect.name}"
        raise ConfigError(f"{given}: without alphas none is more probable; use climb")
    if not kind.takes_budget and plan.quota.budget is not None:
        raise ConfigError(
            f"budget={plan.quota.budget} with search.derivation={derivation}, which takes keep; "
            "search.derivation=perturbation takes a budget"
        )
    if plan.options.alpha_warmup_epochs >= epochs:
        given = plan.options.alpha_warmup_epochs
        raise ConfigError(f"search.alpha_warmup_epochs={given} leaves none of the {epochs} epochs to the alphas")


def search_options(cfg: DictConfig) -> SearchOptions:
    """Return the keys of cfg.search that say how the supernet is searched."""
    values = OmegaConf.to_container(cfg.search, resolve=True)
    return SearchOptions(**{f.name: values[f.name] for f in fields(SearchOptions)})


def build_search(
    cfg: DictConfig, plan: Plan, policy: BranchPolicy, loaders: SearchLoaders, source: Source, precision: Precision
) -> tuple[Trainer, torch.optim.Optimizer, Timing]:
    """Return the trainer of the weights, whose hook moves the alphas, the alphas' optimizer, and when things happen."""
    timing, recipe = Timing(len(loaders.weights), cfg.epochs, plan.options.alpha_warmup_epochs), build_recipe(cfg)
    objective = training_objective(recipe, source.info, loaders.weights)  # that of the trainer
    architect, alphas = plan.options.build(policy, timing, loaders.alphas, objective, precision)
    if recipe.ema_decay is not None:
        log.warning("optim.ema_decay=%g has no effect: a search derives from the weights themselves", recipe.ema_decay)
    trainer = build_trainer(
        replace(recipe, ema_decay=None),
        policy.module,
        weight_parameters(policy.module),
        loaders.weights,
        source.info,
        precision,
        seed=cfg.seed,
        hook=architect,
    )
    check_disjoint(optimised(trainer.optimizer), optimised(alphas))
    return trainer, alphas, timing


def kept_for_derive(cfg: DictConfig, plan: Plan) -> dict[str, object]:
    """Return what `lmsearch derive` needs to know of the search besides its supernet."""
    return {
        "search_space": plan.space.name, "seed": cfg.seed,
        "keep": plan.quota.keep, "budget": plan.quota.budget, "holdout": cfg.search.holdout,
        "relaxation": plan.options.relaxation, "temperature": plan.options.temperatures(1.0),
        "architect": cfg.search.architect, "derivation": cfg.search.derivation, "metric": cfg.metric,
    }  # fmt: skip


def train(
    cfg: DictConfig,
    run_dir: Path,
    plan: Plan,
    policy: BranchPolicy,
    loaders: SearchLoaders,
    source: Source,
    precision: Precision,
) -> None:
    """Train weights and alphas for cfg.epochs epochs, continuing where run_dir left off."""
    supernet, steps = policy.module, len(loaders.weights)
    trainer, alphas, timing = build_search(cfg, plan, policy, loaders, source, precision)
    objective, extra = build_objective(source.info, cfg.metric), kept_for_derive(cfg, plan)
    scored = partial(scores_of, policy, objective=objective, precision=precision)
    parts = trainer.parts() | {"alpha_optimizer": alphas}
    state = RunState(run_dir / "checkpoint.pt", parts, spec=plan.spec, run=run_digest(cfg), extra=extra)
    start = state.restore()
    progress = TrainingProgress(
        "search", total_steps=cfg.epochs * steps, done_steps=start.steps(steps), metric=objective.metric.plain
    )
    with RunLog(run_dir, start_epoch=start.epoch) as run_log, progress:

        def log_epoch(epoch: int, seen: Scores) -> None:
            """Drop what shrinking drops after this epoch, measure, and write it down."""
            for layer, dropped in policy.end_epoch(timing.progress(epoch + 1, 0)).items():
                log.info("epoch %d: %s drops %s", epoch + 1, layer, ", ".join(map(label, dropped)))
            held = scored(loaders.holdout)  # raises where it is not finite, before anything of the epoch is kept
            scores = probabilities(supernet, plan.options.judged(timing.progress(epoch + 1, 0)))
            values = scalars(trainer, seen, held, epoch * steps, metric=objective.metric)
            values |= epoch_findings(
                cfg, supernet, loaders, objective, precision, epoch=epoch, scores=scores, quota=plan.quota,
                scored=scored, held=held,
            )  # fmt: skip
            run_log.write(epoch, values, layers=scores if plan.options.how.learns else None)

        run_epochs(
            trainer, loaders.weights, epochs=cfg.epochs, start=start, on_step=progress.step, on_epoch=log_epoch, state=state
        )


def scores_of(policy: BranchPolicy, batches: Iterable[Batch], *, objective: Objective, precision: Precision) -> Scores:
    """Return the scores of the mixture that alphas weigh or, without alphas, of the branches that ran last."""
    if policy.relaxation.learns:
        return evaluate(policy.module, batches, objective, precision)
    with running(policy.module, policy.last()):
        return evaluate(policy.module, batches, objective, precision)


def scalars(trainer: Trainer, seen: Scores, held: Scores, step: int, *, metric: Metric) -> dict[str, float]:
    """Return the scalars of one epoch that go to metrics.jsonl and TensorBoard; `metric` is that of the held-out samples."""
    return {
        "train_loss": seen.loss,
        f"train_{trainer.objective.metric}": seen.score,
        "holdout_loss": held.loss,
        f"holdout_{metric}": held.score,
        "lr": trainer.schedule(step),
    }


def optimised(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return the parameters that an optimizer moves."""
    return [p for group in optimizer.param_groups for p in group["params"]]
