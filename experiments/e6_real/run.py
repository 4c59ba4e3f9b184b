"""E6 on real images: the default search, random search, evolution and the literature's sets, at equal budgets.

FASHION_MNIST=/folder python -m experiments.e6_real.run --only "main " [--shard 0/2] [--limit-minutes 30] [--summary]
plan.py and README.md fix what is run; verdict.py says what it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from experiments.e6_real import plan as fixed
from experiments.e6_real.plan import (
    BRED,
    KEEP,
    LITERATURE,
    SPACE,
    SUPERNETS,
    Plan,
    alone,
    literature,
    words_of,
)
from experiments.e6_real.verdict import best_validated, draw, summarise
from experiments.records import Record, read_records
from experiments.runs import LIGHT, UNCHECKED, search_or_none
from experiments.study import NotYet, Row, Study, main, one_thread
from lmsearch.data import build_loaders
from lmsearch.data.affine import turn_images
from lmsearch.data.arrays import ArrayDataset
from lmsearch.data.info import Dataset
from lmsearch.data.splitting import stratified_split
from lmsearch.engine.finite import TrainingDiverged
from lmsearch.engine.objectives import objective_for
from lmsearch.engine.randomness import key
from lmsearch.engine.train import evaluate
from lmsearch.report.baselines import BASELINES
from lmsearch.scanbench.spaces import in_candidate_order
from lmsearch.search.derivation.climb import CLIMB_SAMPLES
from lmsearch.search.discrete.architectures import Architecture, ArchitectureSpace, num_branches
from lmsearch.search.discrete.budget import evaluation_cost, training_cost
from lmsearch.search.discrete.evaluators import StandAlone
from lmsearch.search.discrete.strategies import Evolution, History, RandomSearch, Tried

HERE = Path(__file__).resolve().parent
DEGREES, CHANGED = (0, 15, 45, 90), 2000  # by which test images are turned, and how many of them
SPACE_OF_ALL = ArchitectureSpace.of((SPACE.candidates,) * fixed.DEPTH, (KEEP,) * fixed.DEPTH)


def work(row: Row) -> Record:
    """Run one row."""
    return KINDS[row.facts["kind"]](row, fixed.PLANS[row.facts["plan"]])


def known(row: Row, kind: str, *, every_seed: bool = False) -> list[Record]:
    """Return the records of the same plan, and the same seed, of one kind."""
    part, digest = f"{row.facts['plan']} {kind}", row.words[-1]
    found = [r for r in read_records(HERE / "results.jsonl.gz") if r.get("part") == part and r["words"][-1] == digest]
    return [r for r in found if every_seed or r["seed"] == row.facts["seed"]]


def baselines(row: Row, plan: Plan) -> Record:
    """Return what logistic regression and the nearest neighbour reach on the pixels."""
    source = alone(plan, words_of(plan, row.facts["seed"]), 0).source
    sets = [pixels(dataset) for dataset in (source.train, source.val, source.test)]
    (x, y), (x_val, y_val), (x_test, y_test) = sets
    found = {name: answer(x, y, np.concatenate([x_val, x_test])) for name, answer in BASELINES.items()}
    parts = {name: (answers[: len(y_val)], answers[len(y_val) :]) for name, answers in found.items()}
    return {
        "val": {name: round(float((val == y_val).mean()), 5) for name, (val, _) in parts.items()},
        "test": {name: round(float((test == y_test).mean()), 5) for name, (_, test) in parts.items()},
    }


def pixels(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return normalised pixels (N, C * H * W) and classes (N,)."""
    batch = dataset.eval_batch(np.arange(dataset.epoch_size(1)))
    return batch.inputs.flatten(1).numpy(), batch.targets.numpy()


def scores(trainer: StandAlone, chosen: Architecture | None, sets: Mapping[str, Dataset]) -> Record:
    """Train once and return the accuracy on each set: that of guessing, and so said, where training or the search diverged."""
    source, size = trainer.source, trainer.recipe.batch_size
    guessed = dict.fromkeys(sets, round(1 / source.info.num_classes, 5)) | {"diverged": True}
    if chosen is None:
        return guessed | {"cost": 0.0}
    loaders, objective = build_loaders(source, batch_size=size, seed=trainer.seed), objective_for(source.info.target)
    cost = {"cost": trainer.price(num_branches(chosen))}
    try:
        model = trainer.train(chosen, loaders)
    except TrainingDiverged:
        return guessed | cost
    tests = {name: build_loaders(replace(source, test=own), batch_size=size, seed=0).test for name, own in sets.items()}
    return {name: round(evaluate(model, t, objective, trainer.precision).score, 5) for name, t in tests.items()} | cost


def validated(trainer: StandAlone, chosen: Architecture) -> Record:
    """Train once and return the validation accuracy."""
    return {"chosen": chosen} | scores(trainer, chosen, {"val": trainer.source.val})


def piloted(row: Row, plan: Plan) -> Record:
    """Train one architecture of the pilot."""
    arm, seed = row.facts["arm"], row.facts["seed"]
    chosen = literature(arm) if arm in LITERATURE else SPACE_OF_ALL.draw(np.random.default_rng(key(seed, "pilot", arm)))
    words = words_of(plan, seed, epochs=row.facts["epochs"])
    return validated(alone(plan, words, key("pilot", seed, row.facts["run"])), chosen)


def searched(row: Row, plan: Plan) -> Record:
    """Search with a supernet: all that it found, and its cost in branch-scan steps, which one that diverges is charged whole."""
    arm, seed = row.facts["arm"], row.facts["seed"]
    how, epochs = SUPERNETS[arm], plan.supernet_epochs(arm)
    words = [*words_of(plan, seed, epochs=epochs), f"seed={seed}", "search_space=localmamba8", f"keep={KEEP}", LIGHT, UNCHECKED]
    found = search_or_none([*words, *how.words])
    told = found.get("derivation", {})
    looked = told.get("samples_looked_at", CLIMB_SAMPLES * told.get("choices_tried", 0))
    masked = evaluation_cost(looked, batch_size=fixed.BATCH, branches=KEEP * fixed.DEPTH)
    return found | {"cost": training_cost(epochs * plan.supernet_steps(arm), len(SPACE.candidates) * fixed.DEPTH) + masked}


def tried(row: Row, plan: Plan) -> Record:
    """Train and validate what random search proposes at its number, or what evolution breeds from those before."""
    seed, name = row.facts["seed"], row.facts["arm"]
    number = plan.evaluations - 1 if name == BRED else int(name)
    history: list[Tried] = []
    while len(history) < number:
        history.append(Tried(propose(seed, history), 0.0))
    if name == BRED:
        values = {record["arm"]: record["val"] for record in known(row, "try")}
        if missing := {str(n) for n in range(number)} - values.keys():
            raise NotYet(f"tries {', '.join(sorted(missing))} come first")
        history = [replace(one, score=values[str(n)]) for n, one in enumerate(history)]
    chosen = propose(seed, history, bred=name == BRED)
    return validated(alone(plan, words_of(plan, seed), key("try", seed, number)), chosen)


def propose(seed: int, history: list[Tried], *, bred: bool = False) -> Architecture:
    """Return the next proposal: the same draws for random search and for evolution until that breeds."""
    strategy = Evolution(3, 2) if bred else RandomSearch()
    taken = {one.architecture for one in history}
    return strategy.propose(History(SPACE_OF_ALL, history, taken), np.random.default_rng(key(seed, "proposal", len(history))))


def validate(row: Row, plan: Plan) -> Record:
    """Train an arm of the literature once: validation, by which one is picked, and test."""
    seed = row.facts["seed"]
    trainer, chosen = alone(plan, words_of(plan, seed), key("validate", seed)), literature(row.facts["arm"])
    return {"chosen": chosen} | scores(trainer, chosen, {"val": trainer.source.val, "test": trainer.source.test})


def retrain(row: Row, plan: Plan) -> Record:
    """Train a choice anew, RUNS times: validation and test; from the first of them also changed test images."""
    chosen, found = choice_of(row, plan), []
    for other in known(row, "retrain"):
        if chosen is not None and as_tuples(other["chosen"] or []) == chosen:
            same = {name: other[name] for name in ("chosen", "changed", "val", "test", "diverged")}
            return same | {"cost": 0.0, "same_as": other["arm"]}
    for seed in fixed.seeds_of(row):
        trainer = alone(plan, words_of(plan, row.facts["seed"]), seed)
        sets = {"val": trainer.source.val, "test": trainer.source.test}
        found.append(scores(trainer, chosen, sets if found or not plan.official else sets | changed(trainer.source.test)))
    listed = {name: [one[name] for one in found] for name in ("val", "test")}
    other = {name: value for name, value in found[0].items() if name not in (*listed, "cost", "diverged")}
    diverged = {"diverged": sum("diverged" in one for one in found)}
    return {"chosen": chosen, "changed": other, "cost": sum(one["cost"] for one in found)} | listed | diverged


def transfer(row: Row, plan: Plan) -> Record:
    """Train a choice on ten times the images, two epochs, once; the seed is that of the first training that counts."""
    words = words_of(plan, row.facts["seed"], images=10 * plan.images, epochs=2)
    trainer, chosen = alone(plan, words, fixed.seeds_of(row)[0]), choice_of(row, plan)
    return {"chosen": chosen} | scores(trainer, chosen, {"test": trainer.source.test})


def choice_of(row: Row, plan: Plan) -> Architecture | None:
    """Return what a row trains anew, None where the search diverged.

    Raises NotYet where its seed has not chosen, or it is about an arm of the literature that is not the best so far.
    """
    arm = row.facts["arm"]
    if arm in LITERATURE:
        best = best_validated(known(row, "validate", every_seed=True))
        if arm != best:
            raise NotYet(f"the best of the literature so far is {best}")
        return literature(arm)
    if arm in fixed.SEARCHES:
        return best_tried(row, plan)
    found = [record["chosen"] for record in known(row, "search") if record["arm"] == arm]
    if not found:
        raise NotYet(f"the search {arm} of seed {row.facts['seed']} comes first")
    return None if found[0] is None else in_candidate_order(found[0], SPACE.candidates)


def best_tried(row: Row, plan: Plan) -> Architecture:
    """Return the best validated network of random search, or of evolution: of equal ones the earlier."""
    last = BRED if row.facts["arm"] == "evolution" else str(plan.evaluations - 1)
    values = {record["arm"]: record for record in known(row, "try")}
    names = [*map(str, range(plan.evaluations - 1)), last]
    if missing := [name for name in names if name not in values]:
        raise NotYet(f"tries {', '.join(missing)} come first")
    return as_tuples(values[max(names, key=lambda name: values[name]["val"])]["chosen"])


def as_tuples(chosen: list[list[str]]) -> Architecture:
    """Return an architecture as it was before it was written to a record."""
    return tuple(map(tuple, chosen))


def changed(test: Dataset) -> dict[str, Dataset]:
    """Return CHANGED test images, every class alike, turned and enlarged 1.5 times (21x21 tokens)."""
    assert isinstance(test, ArrayDataset)
    labels = test.targets.numpy()
    places = torch.from_numpy(stratified_split(labels, min(1.0, CHANGED / len(labels)), "changed")[1])
    images, ones = test.images[places].float() / 255, torch.ones(len(places))
    few = replace(test, targets=test.targets[places])
    turned = {
        f"turned {degrees}": replace(few, images=turn_images(images, torch.deg2rad(degrees * ones), ones)) for degrees in DEGREES
    }
    large = F.interpolate(images, scale_factor=1.5, mode="bilinear", align_corners=False)
    return turned | {"enlarged": replace(few, images=large)}


KINDS: Mapping[str, Callable[[Row, Plan], Record]] = {
    "baselines": baselines, "learn": piloted, "spread": piloted, "search": searched, "try": tried, "validate": validate,
    "retrain": retrain, "transfer": transfer,
}  # fmt: skip


if __name__ == "__main__":
    fixed.need_images()
    one_thread()
    main(Study(HERE, fixed.rows(), work, summarise, draw))
