"""E6 on real images: the default search, random search, evolution and the literature's sets, at equal budgets.

FASHION_MNIST=/folder python -m experiments.e6_real.run [--only pilot] [--shard 0/2] [--limit-minutes 30] [--summary]
Rows that train a choice anew come after those that make it. README.md fixes the plan.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from experiments.records import Record, read_records
from experiments.runs import LIGHT, UNCHECKED, search
from experiments.study import Row, Study, main, one_thread
from lmsearch.config import compose_settings
from lmsearch.data import Source, build_loaders
from lmsearch.data.affine import turn_images
from lmsearch.data.arrays import ArrayDataset
from lmsearch.data.few import few
from lmsearch.engine.objectives import objective_for
from lmsearch.engine.randomness import key
from lmsearch.engine.train import evaluate
from lmsearch.figures.audit import audit_figure
from lmsearch.files import write_figure
from lmsearch.literature import ARMS
from lmsearch.scanbench.spaces import in_candidate_order
from lmsearch.search.discrete.architectures import Architecture, ArchitectureSpace
from lmsearch.search.discrete.evaluators import StandAlone
from lmsearch.search.discrete.strategies import Evolution, History, RandomSearch, Strategy, Tried
from lmsearch.search_space import load_search_space
from lmsearch.settings.tasks import Retrain
from lmsearch.stats.intervals import over_seeds
from lmsearch.stats.ranking import holm, wilcoxon
from lmsearch.tasks.parts.build import build_data, build_precision, build_recipe, model_spec

HERE = Path(__file__).resolve().parent
ROOT = os.environ.get("FASHION_MNIST", "")
SPACE, KEEP, DEPTH = load_search_space("localmamba8"), 4, 3
SEARCHES: dict[str, Strategy] = {"random": RandomSearch(), "evolution": Evolution(3, 2)}
LITERATURE = tuple(name for name, arm in ARMS.items() if arm.layers("local_vim", DEPTH) is not None)
OURS, BEST = "fair", "best of the literature"
RUNS = 3  # trainings that count, of every choice
DEGREES = (15, 45, 90)


@dataclass(frozen=True)
class Plan:
    """Sizes of a plan: what every row of it is about."""

    seeds: tuple[int, ...]
    images: int = 2400
    val: int = 1500
    epochs: int = 8
    supernet_epochs: int = 14
    evaluations: int = 4
    model: tuple[str, ...] = (f"model.depth={DEPTH}", "model.patch_size=2")


PLANS = {"pilot": Plan(seeds=(100, 101), images=600, epochs=2, supernet_epochs=4), "main": Plan(seeds=tuple(range(10)))}


def rows() -> list[Row]:
    """Return the choices and the literature's validation scores of every seed, then the trainings that count, by plan."""
    listed = []
    for plan, sizes in PLANS.items():
        for seed in sizes.seeds:
            facts = {"plan": plan, "seed": seed}
            listed += [Row(f"{plan} choose", (arm, f"seed{seed}"), facts | {"arm": arm}) for arm in (OURS, *SEARCHES)]
            listed += [Row(f"{plan} validate", (arm, f"seed{seed}"), facts | {"arm": arm}) for arm in LITERATURE]
            listed += [
                Row(f"{plan} retrain", (arm, f"seed{seed}"), facts | {"arm": arm}) for arm in (OURS, *SEARCHES, *LITERATURE)
            ]
            listed += [Row(f"{plan} transfer", (arm, f"seed{seed}"), facts | {"arm": arm}) for arm in (OURS, "random", BEST)]
    return listed


def words_of(plan: Plan, *, images: int = 0, epochs: int = 0) -> tuple[str, ...]:
    """Return the words that all trainings of a plan share."""
    data = ("data=idx", f"data.root={ROOT}", f"data.num_train={images or plan.images}", "data.val_fraction=0.1")
    recipe = (
        "optim=retrain_digits",
        f"epochs={epochs or plan.epochs}",
        "batch_size=32",
        "optim.lr=0.008",
        "optim.warmup_epochs=1",
    )
    return (*data, *plan.model, *recipe, "device=cpu")


@lru_cache(maxsize=2)
def source_of(words: tuple[str, ...], val: int) -> Source:
    """Return the data: the official test set, and `val` of the validation images."""
    whole = build_data(compose_settings(Retrain, ["genotype=none", *words]).data)
    return replace(few(whole, train=10**9, val=val), test=whole.test)


def alone(words: tuple[str, ...], plan: Plan, seed: int) -> StandAlone:
    """Return what trains an architecture with these words."""
    settings = compose_settings(Retrain, ["genotype=none", *words, f"seed={seed}"])
    source = source_of(words, plan.val)
    spec = model_spec(settings, source.info, (("h",),) * DEPTH, merge="sum")
    return StandAlone(spec, source, build_recipe(settings), build_precision(settings), seed, backend=settings.backend)


def work(row: Row) -> Record:
    """Make a choice, validate an arm, or train a choice anew and measure it on the test set."""
    plan, kind = PLANS[row.facts["plan"]], row.part.partition(" ")[2]
    if kind == "choose":
        return {"chosen": choose(row, plan)}
    if kind == "validate":
        chosen = literature(row.facts["arm"])
        found = alone(words_of(plan), plan, key(row.key))(chosen)
        return {"chosen": chosen, "val": found.score}
    chosen = choice_of(row)
    if kind == "transfer":
        words = words_of(plan, images=10 * plan.images, epochs=2)
        return {"chosen": chosen, "test": [measured(alone(words, plan, seeds_of(row)[0]), chosen)["test"]]}
    found = [measured(alone(words_of(plan), plan, seed), chosen) for seed in seeds_of(row)]
    return {"chosen": chosen} | {name: [one[name] for one in found] for name in found[0]}


def seeds_of(row: Row) -> list[int]:
    """Return the seeds of the trainings that count: the same for every arm of one seed, others for another seed."""
    return [key("retrain", row.facts["seed"], number) for number in range(RUNS)]


def choose(row: Row, plan: Plan) -> Architecture:
    """Return what a search chooses; none of them sees the test set."""
    arm, seed = row.facts["arm"], row.facts["seed"]
    if arm == OURS:
        words = [*words_of(plan, epochs=plan.supernet_epochs), f"seed={seed}", "search_space=localmamba8", f"keep={KEEP}"]
        return tuple(map(tuple, search([*words, "search=fair", LIGHT, UNCHECKED])["chosen"]))
    space, tried = ArchitectureSpace.of((SPACE.candidates,) * DEPTH, (KEEP,) * DEPTH), []
    for number in range(plan.evaluations):
        history = History(space, tried, {one.architecture for one in tried})
        proposed = SEARCHES[arm].propose(history, np.random.default_rng(key(seed, "proposal", number)))
        tried.append(Tried(proposed, alone(words_of(plan), plan, key(row.key, number))(proposed).score))
    return max(tried, key=lambda one: one.score).architecture


def literature(arm: str) -> Architecture:
    """Return the directions of an arm of the literature."""
    return ARMS[arm].layers("local_vim", DEPTH) or ()


def choice_of(row: Row) -> Architecture:
    """Return what a row trains anew: an arm of the literature, the best validated one of a seed, or what a search chose."""
    plan, arm, seed = (row.facts[name] for name in ("plan", "arm", "seed"))
    if arm in LITERATURE:
        return literature(arm)
    records = [record for record in read_records(HERE / "results.jsonl.gz") if record.get("seed") == seed]
    if arm == BEST:
        arm = best_literature([record for record in records if record.get("part") == f"{plan} validate"])
        return literature(arm)
    found = [record["chosen"] for record in records if (record.get("part"), record.get("arm")) == (f"{plan} choose", arm)]
    if not found:
        raise SystemExit(f"{row.key}: needs the row '{plan} choose {arm} seed{seed}' first")
    return in_candidate_order(found[0], SPACE.candidates)


def best_literature(records: Sequence[Mapping]) -> str:
    """Return the arm with the best validation score among the rows of one seed; SystemExit where one is missing."""
    if missing := set(LITERATURE) - {record["arm"] for record in records}:
        raise SystemExit(f"the rows validate of {', '.join(sorted(missing))} come first")
    return max(records, key=lambda record: record["val"])["arm"]


def measured(trainer: StandAlone, chosen: Architecture) -> Record:
    """Train and return test accuracies: as they are, turned, and enlarged 1.5 times."""
    source, recipe = trainer.source, trainer.recipe
    loaders = build_loaders(source, batch_size=recipe.batch_size, seed=trainer.seed)
    model, objective = trainer.train(chosen, loaders), objective_for(source.info.target)

    def accuracy(test: ArrayDataset) -> float:
        loader = build_loaders(replace(source, test=test), batch_size=recipe.batch_size, seed=0).test
        return round(evaluate(model, loader, objective, trainer.precision).score, 5)

    test = source.test
    pixels = test.images.float() / 255
    ones = torch.ones(len(pixels))
    turned = {
        f"turned {degrees}": accuracy(replace(test, images=turn_images(pixels, torch.deg2rad(degrees * ones), ones)))
        for degrees in DEGREES
    }
    large = F.interpolate(pixels, scale_factor=1.5, mode="bilinear", align_corners=False)
    return {"test": accuracy(test)} | turned | {"enlarged": accuracy(replace(test, images=large))}


def summarise(records: list[Record]) -> Record:
    """Return, by plan, the mean test accuracy of every arm, paired differences to ours, and the two primary tests."""
    return {plan: summary_of([r for r in records if r["plan"] == plan]) for plan in PLANS}


def summary_of(records: list[Record]) -> Record:
    """Return the summary of the seeds of which no row is missing."""
    kinds = {kind: [r for r in records if r["part"].endswith(kind)] for kind in ("choose", "validate", "retrain", "transfer")}
    arms = (OURS, *SEARCHES, *LITERATURE)
    scores = {(r["arm"], r["seed"]): float(np.mean(r["test"])) for r in kinds["retrain"]}
    seeds = [s for s in sorted({r["seed"] for r in records}) if all((arm, s) in scores for arm in arms)]
    if len(seeds) < 2:
        return {"seeds": len(seeds)}
    best = {s: best_literature([r for r in kinds["validate"] if r["seed"] == s]) for s in seeds}
    table = {arm: np.array([scores[arm, s] for s in seeds]) for arm in arms} | {
        BEST: np.array([scores[best[s], s] for s in seeds])
    }
    minus = {arm: table[OURS] - values for arm, values in table.items() if arm != OURS}
    p = {arm: wilcoxon(minus[arm]) for arm in ("random", BEST)}
    moved = {r["arm"]: [] for r in kinds["transfer"]}
    for r in kinds["transfer"]:
        moved[r["arm"]] += r["test"]
    return {
        "seeds": len(seeds),
        "test": {arm: span(values) for arm, values in table.items()},
        "ours_minus": {arm: span(values) for arm, values in minus.items()},
        "primary_p_holm": holm(p),
        "best_of_the_literature": {str(s): name for s, name in best.items()},
        "changed_images": changed_images(kinds["retrain"]),
        "transfer": {arm: span(values) for arm, values in moved.items() if len(values) > 1},
        "agreement": agreement([r["chosen"] for r in kinds["choose"] if r["arm"] == OURS]),
    }


def span(values: Sequence[float] | np.ndarray) -> list[float]:
    """Return mean, low and high."""
    found = over_seeds([float(v) for v in values])
    return [round(v, 5) for v in (found.mean, found.low, found.high)]


def changed_images(records: Sequence[Record]) -> Record:
    """Return the accuracies on turned and enlarged images, by arm."""
    names = [name for name in records[0] if name.startswith(("turned", "enlarged"))] if records else []
    by_arm = {arm: [r for r in records if r["arm"] == arm] for arm in dict.fromkeys(r["arm"] for r in records)}
    return {arm: {n: round(float(np.mean([r[n] for r in own])), 5) for n in names} for arm, own in by_arm.items()}


def agreement(choices: Sequence[Architecture]) -> Record:
    """Return the share of kept directions that two seeds have in common, per layer, beside chance."""
    pairs = list(combinations(choices, 2))
    shares = [[len(set(a[n]) & set(b[n])) / KEEP for n in range(DEPTH)] for a, b in pairs]
    found = np.mean(shares, axis=0).round(4).tolist() if shares else []
    return {"in_common": found, "by_chance": KEEP / len(SPACE.candidates)}


def draw(summary: Record, path: Path) -> None:
    """Draw the arms of the main plan, or of the pilot where that is all there is."""
    found = next((s for s in (summary["main"], summary["pilot"]) if "test" in s), None)
    if found is not None:
        arms = {arm: dict(zip(("mean", "low", "high"), values, strict=True)) for arm, values in found["test"].items()}
        labels = ("test accuracy", f"test accuracy, 95 % interval over {found['seeds']} seeds")
        write_figure(path, audit_figure([[v["mean"]] for v in arms.values()], arms, labels=labels, title="real images"))


if __name__ == "__main__":
    if not ROOT:
        raise SystemExit("set FASHION_MNIST to the folder of the four idx files")
    one_thread()
    main(Study(HERE, rows(), work, summarise, draw))
