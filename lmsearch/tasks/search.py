"""lmsearch search: train a supernet over scan directions, derive a genotype and say how sure the search is."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from itertools import islice

from omegaconf import DictConfig
from torch import nn

from lmsearch import __version__
from lmsearch.config import settings_of
from lmsearch.context import tell
from lmsearch.data import SearchLoaders, Source
from lmsearch.engine.checkpoint import fingerprint
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.finite import TrainingDiverged
from lmsearch.engine.log import RunLog
from lmsearch.engine.objectives import Metric, Scores
from lmsearch.engine.processes import joined, refuse_several
from lmsearch.engine.progress import TrainingProgress
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.side_by_side import Workers
from lmsearch.engine.state import RunState
from lmsearch.engine.train import Precision, Trainer
from lmsearch.genotype import Genotype
from lmsearch.run_identity import run_digest
from lmsearch.scan.directions import label
from lmsearch.search.session import SearchSession
from lmsearch.search.supernet.kept import keeping_scores
from lmsearch.search.supernet.network import named_mixers
from lmsearch.search.trust.recheck import SUPERNETS
from lmsearch.settings.tasks import Search
from lmsearch.status import Status
from lmsearch.tasks.parts import discrete
from lmsearch.tasks.parts.board import fill_board, results_in
from lmsearch.tasks.parts.build import build_precision, build_recipe
from lmsearch.tasks.parts.candidates import search_data
from lmsearch.tasks.parts.conclude import About, conclude, conclude_seeds, show
from lmsearch.tasks.parts.fit import keeping_of
from lmsearch.tasks.parts.memory import check_memory
from lmsearch.tasks.parts.page import leave_page, note_network
from lmsearch.tasks.parts.readers import settle_readers
from lmsearch.tasks.parts.recheck import read_alike, stored_supernets, train_supernet, trained_supernets
from lmsearch.tasks.parts.run_dir import claim_run_dir
from lmsearch.tasks.parts.samples import searched_on
from lmsearch.tasks.parts.search_setup import SearchSetup, search_setup
from lmsearch.tasks.parts.settle import settle
from lmsearch.tasks.parts.watch import epoch_findings, is_due

log = logging.getLogger(__name__)
NOT_OK = 3  # exit code with strict=true


def run(cfg: DictConfig) -> int:
    """Search, write genotype.json and its figure, and return 0 (3 unless it is ok, with strict=true)."""
    settings = settings_of(Search, cfg)
    if discrete.asked_for(settings.search):
        refuse_several(f"search={settings.discrete.method}")
        return discrete.run(settings)
    precision = build_precision(settings)
    with joined(precision.device) as world:
        genotype = search(settings, precision, world)
    return NOT_OK if settings.strict and genotype.health["status"] != Status.OK else 0


def search(settings: Search, precision: Precision, world: World) -> Genotype:
    """Search in the processes of `world`, show what was found, and return it."""
    settings, source = settle(settings, task="search", processes=world.size)
    precision = replace(precision, micro_batch=settings.micro_batch)
    setup = search_setup(settings, source, budget=settings.budget)
    check_workers(settings)
    side_by_side = settings.seeds if settings.seeds > 1 else SUPERNETS if settings.get("search.recheck") else 1
    at_once = min(settings.workers, side_by_side)
    check_memory(settings.batch_size, setup.spec, precision, running=setup.running, world=world, workers=at_once)
    loaders = setup.options.train_loaders
    settings = settle_readers(settings, source, precision.device, at_once=at_once, loaders=loaders, world=world)
    search_data(settings, source, precision, world=world)  # a split that cannot be made is found before anything is written
    with claim(settings, setup, source, world=world) as run_dir:
        note_network(run_dir, setup.spec, source)
        if settings.seeds == 1:
            genotype = search_once(settings, run_dir, setup, source, precision)
        else:
            genotype = search_seeds(settings, run_dir, setup, source)
    show(run_dir, genotype)
    leave_page(run_dir)
    return genotype


def check_workers(settings: Search) -> None:
    """Raise ConfigError for more workers than there is room for; tell where they have no effect."""
    workers = Workers.asked_for(settings.workers, settings.threads, settings.device)
    if workers.number > 1 and settings.seeds == 1 and settings.supernet.recheck == 0:
        log.warning("workers=%d has no effect: seeds=1 and search.recheck=0 leave one training", workers.number)


def claim(settings: Search, setup: SearchSetup, source: Source, *, world: World = SINGLE) -> AbstractContextManager[RunDir]:
    """Give the block the run directory of one search, or of a search over several seeds."""
    content = [setup.spec.directions, setup.quota.keep, setup.quota.budget, settings.seeds > 1]
    parts = [] if settings.seeds == 1 else [part_of(seed) for seed in seeds_of(settings)]
    return claim_run_dir(settings, "search", content, source=source, parts=parts, world=world)


def seeds_of(settings: Search) -> range:
    """Return the seeds of a search."""
    return range(settings.seed, settings.seed + settings.seeds)


def part_of(seed: int) -> str:
    """Return the name of the folder of one seed of several."""
    return f"s{seed}"


def search_seeds(settings: Search, run_dir: RunDir, setup: SearchSetup, source: Source) -> Genotype:
    """Search with settings.seeds seeds, each a run of its own in s<seed>/, and return what they agree on."""
    jobs, workers = {}, Workers.asked_for(settings.workers, settings.threads, settings.device)
    for done, seed in enumerate(seeds_of(settings), 1):
        seeded = settings.changed({"seed": seed, "seeds": 1, "workers": 1, "run_dir": str(run_dir / part_of(seed))})
        left = (settings.seeds - done) // workers.number
        jobs[f"seed {seed}"] = partial(search_part, seeded, setup, source, run_dir.world, left)
    found = workers.complete(jobs)
    return conclude_seeds(run_dir, setup.quota, [*found.values()])


def search_part(settings: Search, setup: SearchSetup, source: Source, world: World, left: int) -> Genotype:
    """Search with one seed of several, `left` more after it, in a folder of its own."""
    with claim(settings, setup, source, world=world) as folder:
        genotype = search_once(settings, folder, setup, source, build_precision(settings), left=left)
    tell(f"seed {settings.seed}: {genotype.health['status']}: {genotype.health['reason']}")
    return genotype


def search_once(
    settings: Search, run_dir: RunDir, setup: SearchSetup, source: Source, precision: Precision, *, left: int = 0
) -> Genotype:
    """Search with one seed, `left` more after it, and return the genotype, which is also in run_dir."""
    loaders, digest = search_data(settings, source, precision, world=run_dir.world), run_digest(settings.content)
    session = open_session(settings, setup, loaders, source, precision, world=run_dir.world)
    train(settings, run_dir, setup, session, source, searches_left=left)
    provenance = {"lmsearch": __version__, "run_sha256": digest, "seed": settings.seed, "epoch": settings.epochs}
    about = About(setup.spec.name, setup.space.name, provenance, run_dir.path, settings.metric)
    if settings.supernet.recheck == 0:  # what an earlier recheck of the same search told stays known
        stored = stored_supernets(run_dir.path, setup.spec, digest, backend=settings.backend, device=precision.device)
        fresh = read_alike(stored, run_dir.world)
    elif settings.workers > 1:
        fresh = trained_side_by_side(settings, run_dir, setup, source, session)
    else:
        fresh = trained_supernets(session, run_dir, setup.spec, digest, keeping=keeping_of(settings))
    with keeping_scores(run_dir, digest, every_s=settings.save_every_s) as kept:
        trained = replace(session.trained, kept=kept)
        genotype = conclude(run_dir, trained, about, loaders.val, source.info.img_size, fresh=fresh)
    fill_board(run_dir, settings.content, results_in(run_dir), step=settings.epochs, genotype=genotype)
    return genotype


def trained_side_by_side(
    settings: Search, run_dir: RunDir, setup: SearchSetup, source: Source, session: SearchSession
) -> Iterator[nn.Module]:
    """Train the supernets of the recheck, `settings.workers` at a time, and yield one after the other."""
    workers = Workers.asked_for(settings.workers, settings.threads, settings.device)
    alone = settings.changed({"workers": 1})
    workers.run({
        f"recheck {number + 1}": partial(train_fresh, alone, run_dir, setup, source, number) for number in range(SUPERNETS)
    })  # fmt: skip
    digest = run_digest(settings.content)
    yield from trained_supernets(session, run_dir, setup.spec, digest, keeping=keeping_of(settings))


def train_fresh(settings: Search, run_dir: RunDir, setup: SearchSetup, source: Source, number: int) -> None:
    """Train the supernet of this number of the recheck into run_dir, until it is done or diverges."""
    precision = build_precision(settings)
    session = open_session(settings, setup, search_data(settings, source, precision), source, precision)
    fresh = next(islice(session.fresh(), number, None))
    with suppress(TrainingDiverged):  # it does so again where this supernet is asked for, and only there it counts
        digest = run_digest(settings.content)
        train_supernet(number, fresh, run_dir=run_dir, spec=setup.spec, digest=digest, keeping=keeping_of(settings))


def open_session(
    settings: Search,
    setup: SearchSetup,
    loaders: SearchLoaders,
    source: Source,
    precision: Precision,
    *,
    world: World = SINGLE,
) -> SearchSession:
    """Return the search of one seed, before its first step."""
    recipe = build_recipe(settings)
    if recipe.ema_decay is not None:
        log.warning("optim.ema_decay=%g has no effect: a search derives from the weights themselves", recipe.ema_decay)
    return SearchSession.over(
        source,
        setup.spec,
        loaders,
        replace(recipe, ema_decay=None),
        setup.options,
        setup.quota,
        derivation=settings.supernet.derivation,
        precision=precision,
        seed=settings.seed,
        recheck_share=settings.supernet.recheck,
        metric=settings.metric,
        backend=settings.backend,
        world=world,
    )


def kept_for_derive(settings: Search, setup: SearchSetup) -> dict[str, object]:
    """Return what `lmsearch derive` needs to know of the search besides its supernet."""
    return {
        "search_space": setup.space.name, "seed": settings.seed,
        "keep": setup.quota.keep, "budget": setup.quota.budget, "holdout": setup.holdout,
        "relaxation": setup.options.relaxation, "temperature": setup.options.temperatures(1.0),
        "architect": settings.supernet.architect, "derivation": settings.supernet.derivation, "metric": settings.metric,
    }  # fmt: skip


def train(
    settings: Search, run_dir: RunDir, setup: SearchSetup, session: SearchSession, source: Source, *, searches_left: int = 0
) -> None:
    """Train weights and alphas, continuing where run_dir left off; write down every epoch.

    `searches_left`: as many like it come after it, for the time left.
    """
    steps, metric = session.timing.steps_per_epoch, session.objective.metric
    parts = session.parts() | {"alpha_optimizer": session.alpha_optimizer}
    extra, keeping = kept_for_derive(settings, setup) | searched_on(source), keeping_of(settings)
    state = RunState(run_dir, parts, spec=setup.spec, run=run_digest(settings.content), extra=extra, keeping=keeping)
    start, total = state.restore(), settings.epochs * steps
    others = searches_left * (total + session.steps_beside_training(0))
    progress = TrainingProgress(
        "search",
        total_steps=total,
        done_steps=start.steps(steps),
        metric=metric.in_training,
        later=others + session.steps_beside_training(start.epoch),
        epochs=settings.epochs,
        processes=run_dir.world.size,
    )
    with RunLog(run_dir, start_epoch=start.epoch) as run_log, progress:

        def log_epoch(epoch: int, seen: Scores) -> None:
            """Say what shrinking dropped after this epoch, measure, and write it down."""
            for layer, dropped in session.dropped.items():
                log.info("epoch %d: %s drops %s", epoch + 1, layer, ", ".join(map(label, dropped)))
            if session.found:
                log.info("epoch %d: the best choices all hold %s: alphas learn from now on", epoch + 1, label(session.found))
            session.world.assert_same(digest_of_alphas(session.supernet), what="the alphas")
            held = session.scores_on(session.loaders.holdout)  # raises where not finite, before anything of the epoch is kept
            values = scalars(session.trainer, seen, held, epoch * steps, metric=metric)
            values |= epoch_findings(session, epoch=epoch, every=settings.supernet.health_every, held=held)
            layers = session.probabilities_after(epoch) if session.learns else None
            due = is_due(settings.supernet.health_every, epoch, settings.epochs)
            worth = session.worth() if due and layers is None else None
            run_log.write(epoch, values, layers=layers, worth=worth)
            if due and (known := layers or worth):
                progress.best(best_of(known, dict(zip(named_mixers(session.supernet), session.keep, strict=True))))
            if due:
                run_log.histograms(epoch, session.supernet)
            progress.later = others + session.steps_beside_training(epoch + 1)

        session.train(start=start, state=state, on_step=progress.step, on_epoch=log_epoch)
    run_dir.world.wait()  # until the main process has written the last epoch down, which the verdict reads


def digest_of_alphas(supernet: nn.Module) -> str:
    """Return a digest of all alphas, which every process must have alike."""
    return fingerprint({layer: mixer.supernet_alphas.detach() for layer, mixer in named_mixers(supernet).items()})


def best_of(values: Mapping[str, Mapping[str, float]], keep: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the directions of every layer with the largest values, as many as it keeps, in candidate order."""
    found = {}
    for layer, mine in values.items():
        best = sorted(mine, key=lambda name: mine[name], reverse=True)[: keep[layer]]
        found[layer] = [label(name) for name in mine if name in best]
    return found


def scalars(trainer: Trainer, seen: Scores, held: Scores, step: int, *, metric: Metric) -> dict[str, float]:
    """Return the scalars of one epoch that go to metrics.jsonl and TensorBoard; `metric` is that of the held-out samples."""
    return {
        **trainer.objective.trained(seen),
        "holdout_loss": held.loss,
        f"holdout_{metric}": held.score,
        **{f"holdout_{name}": value for name, value in held.told.items()},
        "lr": trainer.rate(step),
        **trainer.skips.counts(),
    }
