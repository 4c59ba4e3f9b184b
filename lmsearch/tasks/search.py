"""lmsearch search: train a supernet over scan directions, derive a genotype and say how sure the search is."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from lmsearch import __version__
from lmsearch.config import config_digest
from lmsearch.data import SearchLoaders, Source, search_loaders
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.log import RunLog, write_json
from lmsearch.engine.objective import Scores
from lmsearch.engine.progress import TrainingProgress
from lmsearch.engine.randomness import key
from lmsearch.engine.recipe import build_trainer
from lmsearch.engine.train import Precision, Trainer, evaluate, train_one_epoch
from lmsearch.genotype import Genotype, save_genotype
from lmsearch.report.directions import print_choices, save_choices_figure
from lmsearch.search.alpha_update import alpha_optimizer
from lmsearch.search.architect import Timing, build_architect
from lmsearch.search.derive import choose, derive_topk
from lmsearch.search.health import Health, check_health
from lmsearch.search.options import SearchOptions
from lmsearch.search.policy import BranchPolicy
from lmsearch.search.supernet import probabilities, weight_parameters
from lmsearch.search_space import SearchSpace
from lmsearch.tasks import discrete
from lmsearch.tasks.build import (
    TrainingState,
    build_data,
    build_objective,
    build_precision,
    build_recipe,
)
from lmsearch.tasks.candidates import find_candidates
from lmsearch.tasks.run_dir import claim_run_dir

log = logging.getLogger(__name__)
INDETERMINATE = 3  # exit code with strict=true


@dataclass(frozen=True)
class Plan:
    """What will be searched and how: the supernet's description, the search space, directions that each layer keeps, options."""

    spec: ModelSpec
    space: SearchSpace
    keep: tuple[int, ...]
    options: SearchOptions


def run(cfg: DictConfig) -> int:
    """Search, write genotype.json and its figure, and return 0 (3 when indeterminate and strict=true)."""
    if discrete.asked_for(cfg):
        return discrete.run(cfg)
    precision = build_precision(cfg)
    source = build_data(cfg)
    plan = make_plan(cfg, source)
    loaders = search_loaders(
        source,
        holdout=cfg.search.holdout,
        batch_size=cfg.batch_size,
        seed=cfg.seed,
        num_workers=cfg.num_workers,
        pin_memory=precision.device.type == "cuda",
    )
    run_dir = claim_run_dir(cfg, "search", [plan.spec.directions, plan.keep])
    torch.manual_seed(key(cfg.seed, "init"))
    supernet = plan.spec.build(backend=cfg.backend).to(precision.device)
    policy = make_policy(cfg, plan, supernet)
    with policy.attached():
        train(cfg, run_dir, plan, policy, loaders, source, precision)
        return finish(cfg, run_dir, plan, supernet, loaders, source, precision)


def make_plan(cfg: DictConfig, source: Source) -> Plan:
    """Put search space, model and options together; every mistake in them is found here, before anything is written."""
    found = find_candidates(cfg, source)
    return Plan(found.spec, found.space, found.keep, search_options(cfg))


def search_options(cfg: DictConfig) -> SearchOptions:
    """Return the keys of cfg.search that say how the supernet is searched."""
    values = OmegaConf.to_container(cfg.search, resolve=True)
    return SearchOptions(**{f.name: values[f.name] for f in fields(SearchOptions)})


def make_policy(cfg: DictConfig, plan: Plan, supernet: nn.Module) -> BranchPolicy:
    """Return what decides which branches run in each step."""
    options, candidates = plan.options, [len(layer) for layer in plan.spec.directions]
    samples = options.samples_of(plan.keep, candidates)
    return BranchPolicy(
        supernet, options.how, samples, plan.keep, cfg.seed, temperature=options.temperatures, shrink=options.stages
    )


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
    supernet, how, steps = policy.module, plan.options, len(loaders.weights)
    alphas = alpha_optimizer(
        supernet, lr=how.alpha_lr, betas=how.alpha_betas, weight_decay=how.alpha_weight_decay, update=how.update
    )
    objective = build_objective(source.info)
    timing = Timing(steps, cfg.epochs, how.alpha_warmup_epochs)
    architect = build_architect(
        how.architect,
        policy,
        timing,
        loaders.alphas,
        objective,
        alphas,
        precision,
        order=how.order,
        mixed_weight=how.mixed_weight,
        decay=how.decays,
    )
    trainer = build_trainer(
        build_recipe(cfg),
        supernet,
        weight_parameters(supernet),
        loaders.weights,
        source.info,
        precision,
        seed=cfg.seed,
        hook=architect,
    )
    extra = {"search_space": plan.space.name, "keep": list(plan.keep), "digest": config_digest(cfg), "seed": cfg.seed}
    extra["relaxation"] = how.relaxation
    state = TrainingState(run_dir / "checkpoint.pt", plan.spec, trainer, alpha_optimizer=alphas, extra=extra)
    start = state.restore()
    progress = TrainingProgress(
        "search", total_steps=cfg.epochs * steps, done_steps=start * steps, metric=objective.metric
    )
    with RunLog(run_dir, start_epoch=start) as run_log, progress:
        for epoch in range(start, cfg.epochs):
            seen = train_one_epoch(
                trainer, loaders.weights, epoch=epoch, on_step=lambda _, s, e=epoch: progress.step(e, s)
            )
            for layer, dropped in policy.end_epoch(timing.progress(epoch + 1, 0)).items():
                log.info("epoch %d: %s drops %s", epoch + 1, layer, ", ".join(dropped))
            held = evaluate(supernet, loaders.holdout, objective, precision)
            run_log.write(epoch, scalars(trainer, seen, held, epoch * steps), layers=probabilities(supernet, how.how))
            state.save(epoch + 1)


def scalars(trainer: Trainer, seen: Scores, held: Scores, step: int) -> dict[str, float]:
    """Return the scalars of one epoch that go to metrics.jsonl and TensorBoard."""
    metric = trainer.objective.metric
    return {
        "train_loss": seen.loss,
        f"train_{metric}": seen.score,
        "holdout_loss": held.loss,
        f"holdout_{metric}": held.score,
        "lr": trainer.schedule(step),
    }


def finish(
    cfg: DictConfig,
    run_dir: Path,
    plan: Plan,
    supernet: nn.Module,
    loaders: SearchLoaders,
    source: Source,
    precision: Precision,
) -> int:
    """Derive, test the result on held-out data, write and show it."""
    objective = build_objective(source.info)
    scores = probabilities(supernet, plan.options.how)

    def run_holdout(module: nn.Module) -> Scores:
        return evaluate(module, loaders.holdout, objective, precision)

    health = check_health(supernet, choose(scores, plan.keep), run_holdout, seed=cfg.seed)
    provenance = {"lmsearch": __version__, "config_sha256": config_digest(cfg), "seed": cfg.seed, "epoch": cfg.epochs}
    genotype = derive_topk(
        scores,
        plan.keep,
        model=plan.spec.name,
        search_space=plan.space.name,
        health=health.to_dict(),
        provenance=provenance,
    )
    save_genotype(genotype, run_dir / "genotype.json")
    held = run_holdout(supernet)
    write_json(run_dir / "metrics.json", {f"holdout_{objective.metric}": held.score, "health": health.to_dict()})
    show(run_dir, genotype, health)
    return INDETERMINATE if cfg.strict and health.status != "ok" else 0


def show(run_dir: Path, genotype: Genotype, health: Health) -> None:
    """Print the table of chosen directions and the verdict, and draw the figure."""
    print_choices(genotype)
    save_choices_figure(genotype, run_dir / "genotype.png")
    print(f"search status: {health.status}: {health.reason}")
    print(f"genotype: {run_dir / 'genotype.json'}   figure: {run_dir / 'genotype.png'}")
