"""lmsearch search: train a supernet over scan directions, derive a genotype and say how sure the search is."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lmsearch import __version__
from lmsearch.config_values import literal
from lmsearch.data import SearchLoaders, Source
from lmsearch.engine.log import RunLog
from lmsearch.engine.objective import Metric, Scores
from lmsearch.engine.progress import TrainingProgress
from lmsearch.engine.state import RunState
from lmsearch.engine.train import Precision, Trainer
from lmsearch.errors import ConfigError
from lmsearch.genotype import Genotype
from lmsearch.run_identity import run_digest
from lmsearch.scan.directions import label
from lmsearch.search.checks import check_search
from lmsearch.search.session import SearchSession
from lmsearch.search.supernet.options import SearchOptions
from lmsearch.status import Status
from lmsearch.tasks.parts import discrete
from lmsearch.tasks.parts.build import build_precision, build_recipe
from lmsearch.tasks.parts.candidates import Candidates, find_candidates, search_data
from lmsearch.tasks.parts.conclude import About, conclude, conclude_seeds, show
from lmsearch.tasks.parts.memory import check_memory
from lmsearch.tasks.parts.recheck import stored_supernets, trained_supernets
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
    loaders, digest = search_data(cfg, source, precision), run_digest(cfg)
    session = open_session(cfg, plan, loaders, source, precision)
    train(cfg, run_dir, plan, session)
    provenance = {"lmsearch": __version__, "run_sha256": digest, "seed": cfg.seed, "epoch": cfg.epochs}
    about = About(plan.spec.name, plan.space.name, provenance, run_dir, cfg.metric)
    if cfg.search.recheck == 0:  # what an earlier recheck of the same search told stays known
        fresh = stored_supernets(run_dir, plan.spec, digest, backend=cfg.backend, device=precision.device)
    else:
        fresh = trained_supernets(session, run_dir, plan.spec, digest)
    return conclude(run_dir, session.trained, about, loaders.val, source.info.img_size, fresh=fresh)


def open_session(cfg: DictConfig, plan: Plan, loaders: SearchLoaders, source: Source, precision: Precision) -> SearchSession:
    """Return the search of one seed, before its first step."""
    recipe = build_recipe(cfg)
    if recipe.ema_decay is not None:
        log.warning("optim.ema_decay=%g has no effect: a search derives from the weights themselves", recipe.ema_decay)
    return SearchSession.over(
        source,
        plan.spec,
        loaders,
        replace(recipe, ema_decay=None),
        plan.options,
        plan.quota,
        derivation=cfg.search.derivation,
        precision=precision,
        seed=cfg.seed,
        recheck_share=cfg.search.recheck,
        metric=cfg.metric,
        backend=cfg.backend,
    )


def make_plan(cfg: DictConfig, source: Source) -> Plan:
    """Put search space, model and options together; every mistake in them is found here, before anything is written."""
    found = find_candidates(cfg, source)
    plan = Plan(found.spec, found.space, found.quota, search_options(cfg))
    counts = [len(layer) for layer in plan.spec.directions]
    check_search(plan.options, plan.quota, counts, epochs=cfg.epochs, derivation=cfg.search.derivation)
    if cfg.precision == "fp16" and not plan.options.kind.fp16:
        how = plan.options.architect
        raise ConfigError(f"precision=fp16 with search.architect={how}: held-out gradients would underflow; use bf16")
    return plan


def search_options(cfg: DictConfig) -> SearchOptions:
    """Return the keys of cfg.search that say how the supernet is searched."""
    values = OmegaConf.to_container(cfg.search, resolve=True)
    return SearchOptions(**{f.name: values[f.name] for f in fields(SearchOptions)})


def kept_for_derive(cfg: DictConfig, plan: Plan) -> dict[str, object]:
    """Return what `lmsearch derive` needs to know of the search besides its supernet."""
    return {
        "search_space": plan.space.name, "seed": cfg.seed,
        "keep": plan.quota.keep, "budget": plan.quota.budget, "holdout": cfg.search.holdout,
        "relaxation": plan.options.relaxation, "temperature": plan.options.temperatures(1.0),
        "architect": cfg.search.architect, "derivation": cfg.search.derivation, "metric": cfg.metric,
    }  # fmt: skip


def train(cfg: DictConfig, run_dir: Path, plan: Plan, session: SearchSession) -> None:
    """Train weights and alphas, continuing where run_dir left off; write down every epoch."""
    steps, metric = session.timing.steps_per_epoch, session.objective.metric
    parts = session.trainer.parts() | {"alpha_optimizer": session.alpha_optimizer}
    extra = kept_for_derive(cfg, plan)
    state = RunState(run_dir / "checkpoint.pt", parts, spec=plan.spec, run=run_digest(cfg), extra=extra)
    start = state.restore()
    progress = TrainingProgress("search", total_steps=cfg.epochs * steps, done_steps=start.steps(steps), metric=metric.plain)
    with RunLog(run_dir, start_epoch=start.epoch) as run_log, progress:

        def log_epoch(epoch: int, seen: Scores) -> None:
            """Say what shrinking dropped after this epoch, measure, and write it down."""
            for layer, dropped in session.dropped.items():
                log.info("epoch %d: %s drops %s", epoch + 1, layer, ", ".join(map(label, dropped)))
            held = session.scores_on(session.loaders.holdout)  # raises where not finite, before anything of the epoch is kept
            values = scalars(session.trainer, seen, held, epoch * steps, metric=metric)
            values |= epoch_findings(session, epoch=epoch, every=cfg.search.health_every, held=held)
            run_log.write(epoch, values, layers=session.probabilities_after(epoch) if session.learns else None)

        session.train(start=start, state=state, on_step=progress.step, on_epoch=log_epoch)


def scalars(trainer: Trainer, seen: Scores, held: Scores, step: int, *, metric: Metric) -> dict[str, float]:
    """Return the scalars of one epoch that go to metrics.jsonl and TensorBoard; `metric` is that of the held-out samples."""
    return {
        "train_loss": seen.loss,
        f"train_{trainer.objective.metric}": seen.score,
        "holdout_loss": held.loss,
        f"holdout_{metric}": held.score,
        "lr": trainer.schedule(step),
    }
