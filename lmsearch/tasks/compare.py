"""lmsearch compare: is a genotype better than a random and a hand-made one, retrained alike, and than simple baselines?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from lmsearch.config import settings_of
from lmsearch.context import in_full, tell
from lmsearch.data import Source
from lmsearch.data.info import target_kind
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.distributed import World
from lmsearch.engine.objectives import Metric, Scores
from lmsearch.engine.processes import joined
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.side_by_side import Workers
from lmsearch.engine.train import Precision
from lmsearch.report.arms import Arm, by_chance, unequal_kept, verdict_of
from lmsearch.report.baselines import shortfall
from lmsearch.scan.directions import label
from lmsearch.search_space import SearchSpace, load_search_space
from lmsearch.settings.tasks import Compare
from lmsearch.stats.digits import span
from lmsearch.tasks.parts.arms import make_arms
from lmsearch.tasks.parts.baselines import simple_baselines
from lmsearch.tasks.parts.build import build_objective, build_precision, check_classes
from lmsearch.tasks.parts.fit import fit, fitting_data
from lmsearch.tasks.parts.memory import check_memory
from lmsearch.tasks.parts.page import leave_page, note_network
from lmsearch.tasks.parts.readers import settle_readers
from lmsearch.tasks.parts.run_dir import claim_run_dir
from lmsearch.tasks.parts.settle import settle
from lmsearch.tasks.retrain import derived_spec


def run(cfg: DictConfig) -> int:
    """Retrain every arm, print the table and write comparison.json."""
    settings = settings_of(Compare, cfg)
    precision = build_precision(settings)
    with joined(precision.device) as world:
        compare(settings, precision, world)
    return 0


def compare(settings: Compare, precision: Precision, world: World) -> None:
    """Train every arm in the processes of `world`, and tell how they do."""
    settings, source = settle(settings, processes=world.size)
    precision = replace(precision, micro_batch=settings.micro_batch)
    check_classes(settings.optim, source)
    objective = build_objective(source.info, settings.metric)
    space = load_search_space(settings.search_space)
    arms = make_arms(settings, source, space)
    specs = {arm.name: [derived_spec(settings, source, genotype) for genotype in arm.genotypes] for arm in arms}
    largest = max((own[0] for own in specs.values()), key=lambda spec: sum(map(len, spec.directions)))
    workers = Workers.asked_for(settings.workers, settings.threads, settings.device)
    content = [[arm.genotypes[0].directions for arm in arms], space.candidates, space.per_layer]
    parts = [part_of(arm, settings.seed + number) for number in range(settings.seeds) for arm in arms]
    at_once = min(workers.number, len(parts))
    check_memory(settings.batch_size, largest, precision, world=world, workers=at_once)
    settings = settle_readers(settings, source, precision.device, at_once=at_once, world=world)
    fitting_data(settings, source, precision, world=world)  # batches that cannot be made are found before anything is written
    with claim_run_dir(settings, "compare", content, source=source, parts=parts, world=world) as run_dir:
        note_network(run_dir, specs[arms[0].name][0], source)
        train_arms(settings, run_dir, arms, specs, source, workers)
        baselines = simple_baselines(source, settings.baseline_limit, objective)
        verdict = verdict_of(arms)
        verdict += "".join(f"; {told}" for told in (unequal_kept(arms), by_chance(arms)) if told)
        if short := shortfall({arm.name: arm.interval().mean for arm in arms}, baselines):
            verdict += f"; {short}"
        run_dir.write_json("comparison.json", summary(settings, space, arms, baselines, verdict))
    show(run_dir, arms, baselines, verdict, metric=objective.metric)
    leave_page(run_dir)


def train_arms(
    settings: Compare,
    run_dir: RunDir,
    arms: Sequence[Arm],
    specs: Mapping[str, Sequence[ModelSpec]],
    source: Source,
    workers: Workers,
) -> None:
    """Train every arm with every seed, as many at a time as there are workers; their scores go into the arms' results."""
    order = [(number, arm) for number in range(settings.seeds) for arm in arms]
    jobs = {}
    for done, (number, arm) in enumerate(order, 1):
        seeded = settings.changed({"seed": settings.seed + number})
        folder, title = run_dir.inside(part_of(arm, seeded.seed)), f"{arm.name} (seed {seeded.seed})"
        left = (len(order) - done) // workers.number
        jobs[title] = partial(train_arm, seeded, folder, specs[arm.name][number], source, title, left)
    found = workers.complete(jobs)
    for (_, arm), scores in zip(order, found.values(), strict=True):
        arm.results.append(scores)


def train_arm(settings: Compare, folder: RunDir, spec: ModelSpec, source: Source, title: str, left: int) -> Scores:
    """Train one arm with one seed, `left` more after it, and return its scores on the test set."""
    with folder.owned():
        return fit(settings, folder, spec, source, build_precision(settings), title=title, trainings_left=left)[1]


def part_of(arm: Arm, seed: int) -> str:
    """Return the name of the folder of one arm with one seed."""
    return f"{arm.name}-s{seed}"


def summary(settings: Compare, space: SearchSpace, arms: list[Arm], baselines: dict[str, float], verdict: str) -> dict:
    """Return the content of comparison.json."""
    searched = arms[0]
    return {
        "arms": {
            arm.name: {
                f"test_{arm.metric}": asdict(arm.interval()),
                "per_seed": [r.score for r in arm.results],
                "directions": [[[label(d) for d in layer] for layer in g.directions] for g in arm.genotypes],
            }
            for arm in arms
        },
        "differences": {f"{searched.name} - {arm.name}": asdict(searched.minus(arm)) for arm in arms[1:]},
        "baselines": baselines,
        "verdict": verdict,
        "search_space": space.name,
        "metric": searched.metric.name,
        "seeds": settings.seeds,
        "first_seed": settings.seed,
        "epochs": settings.epochs,
        "num_test": len(searched.results[0].scores),
        "interval": interval_of(searched.metric, seeds=settings.seeds, samples=len(searched.results[0].scores)),
    }


def interval_of(metric: Metric, *, seeds: int, samples: int) -> str:
    """Return how the intervals of comparison.json are made."""
    if samples < 2:
        return "without bounds but the metric's" if seeds == 1 else "95 %, over seeds (Student's t), not over test samples"
    counted = "binomial" if target_kind(metric.target).classes else "normal"
    if seeds == 1:
        return f"95 %, {counted} and paired over test samples of one seed; the luck of training is not in them"
    single, pairs = (
        (", cut at 0 and 1, which costs no coverage", ", cut at -1 and 1") if math.isfinite(metric.bounds[1]) else ("", "")
    )
    both = f"95 %, over seeds (Student's t) and test samples ({counted}), whose errors add up{single}"
    normal = "" if target_kind(metric.target).classes and not metric.balanced else ", and normal over samples"
    return f"{both}; of differences paired{normal}{pairs}"


def show(run_dir: RunDir, arms: list[Arm], baselines: dict[str, float], verdict: str, *, metric: Metric) -> None:
    """Print the table and the verdict, which quiet=true leaves."""
    table = Table(title=f"test {metric}, same budget and recipe")
    for column in ("choice", metric.name, "95 % interval", f"{arms[0].name} minus this"):
        table.add_column(column)
    for arm in arms:
        i = arm.interval()
        d = None if arm is arms[0] else arms[0].minus(arm)
        table.add_row(
            arm.name,
            f"{i.mean:.4f}",
            f"{i.low:.4f} to {i.high:.4f}",
            "" if d is None else span(d.mean, d.low, d.high),
        )
    for name, score in baselines.items():
        table.add_row(name, f"{score:.4f}", "", "")
    if in_full():
        Console().print(table)
    print(verdict)
    tell(f"comparison: {run_dir / 'comparison.json'}")
