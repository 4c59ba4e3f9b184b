"""A table of ScanBench from larger real images: every architecture of one layer that keeps 2 of 8 directions, on Fashion-MNIST.

FASHION_MNIST=/folder python -m experiments.scanbench_fashion.run [--shard 0/2] [--limit-minutes 30] [--summary]
Once all rows are there the summary writes the table and the version of ScanBench that has it. Data and recipe are those of E6.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np

from experiments.differences import draw_differences, span
from experiments.e6_real import plan as fixed
from experiments.e6_real.plan import DEFAULT, HOLDOUT, SPACE, Plan, alone, words_of
from experiments.e6_real.run import scores
from experiments.records import Record
from experiments.runs import LIGHT, UNCHECKED, search
from experiments.study import Row, Study, main, one_thread
from lmsearch.errors import DataError
from lmsearch.files import write_json
from lmsearch.scanbench import table as shipped
from lmsearch.scanbench.spaces import Space, from_text, in_candidate_order, to_text
from lmsearch.scanbench.table import Table, write_table
from lmsearch.search.discrete.budget import training_cost
from lmsearch.search.discrete.evaluators import StandAlone

HERE = Path(__file__).resolve().parent
TASK, NAME, VERSION, BEFORE = "fashion", "1 layer, top 2", "1.1", "1.0"
SMALL = Space(1, 2, SPACE.candidates)
PLAN = Plan(seeds=tuple(range(4)), official=True, model=("model.depth=1", "model.patch_size=2"))
SUPERNETS: Mapping[str, tuple[str, ...]] = {
    "search=fair": fixed.SUPERNETS[DEFAULT].words[1:],
    "search=darts": (f"search.holdout={HOLDOUT}", "search.alpha_lr=0.03"),
}
STEPS_OF = {"search=fair": PLAN.supernet_steps(DEFAULT), "search=darts": PLAN.supernet_steps()}  # of an epoch
SUPERNET_SEEDS, DATA = range(5), 0  # all rows share their images, which this seed draws
STEPS = PLAN.epochs * (PLAN.images // fixed.BATCH)


def rows() -> list[Row]:
    """Return the trainings of the table, seeds outermost, then the supernets that the leaderboard judges by it."""
    found = [trained(to_text(one), seed) for seed in PLAN.seeds for one in SMALL.architectures()]
    return found + [
        Row("supernet", (method, *words, f"seed{seed}", PLAN.digest()), {"method": method, "seed": seed})
        for seed in SUPERNET_SEEDS
        for method, words in SUPERNETS.items()
    ]


def trained(architecture: str, seed: int) -> Row:
    """Return the row that trains one architecture."""
    return Row(TASK, (architecture, f"seed{seed}", PLAN.digest()), {"architecture": architecture, "seed": seed})


def trainer_of(seed: int) -> StandAlone:
    """Return what trains an architecture."""
    return alone(PLAN, words_of(PLAN, DATA), seed, depth=SMALL.depth)


def work(row: Row) -> Record:
    """Train one architecture with one seed, or search with a supernet."""
    if row.part == "supernet":
        return searched(row)
    trainer = trainer_of(row.facts["seed"])
    sets = {"val": trainer.source.val, "test": trainer.source.test}
    return scores(trainer, from_text(row.facts["architecture"]), sets)


def searched(row: Row) -> Record:
    """Return what a supernet derives that is trained as many epochs as a network; its cost is that of training it."""
    method, seed = row.facts["method"], row.facts["seed"]
    words = [*words_of(PLAN, DATA), f"seed={seed}", "search_space=localmamba8", f"keep={SMALL.keep}", method, *SUPERNETS[method]]
    found = search([*words, LIGHT, UNCHECKED, "optim.on_nonfinite=skip"])
    cost = training_cost(PLAN.epochs * STEPS_OF[method], len(SMALL.candidates))
    return {"derived": in_candidate_order(found.pop("chosen"), SMALL.candidates), "cost": cost} | found


def setting() -> Record:
    """Return data, network and recipe as plain values, without the folder of the images."""
    trainer = trainer_of(0)
    source = {name: value for name, value in trainer.spec.data["source"].items() if name != "root"}
    told = {"model": trainer.spec.name, "options": trainer.spec.options, "recipe": asdict(trainer.recipe), "source": source}
    return json.loads(json.dumps(told | {"num_seeds": len(PLAN.seeds)}))


def table_of(records: Sequence[Record], how: Record) -> Table | None:
    """Return the table, or None where rows are missing."""
    found = {(r["architecture"], r["seed"]): r for r in records if r["part"] == TASK}
    names = [to_text(one) for one in SMALL.architectures()]
    if any((name, seed) not in found for name in names for seed in PLAN.seeds):
        return None
    val, test = (np.array([[found[n, s][column] for s in PLAN.seeds] for n in names]) for column in ("val", "test"))
    config = sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()
    return Table(TASK, "accuracy", config, how, SMALL.architectures(), val, test)


def publish(table: Table) -> None:
    """Write the table, and the version that has it beside all tables before; DataError where that version is of another table."""
    path, versions = shipped.FOLDER / f"{TASK}.json", json.loads(shipped.VERSIONS.read_text())
    draft = path.with_suffix(".draft")
    write_table(table, draft)
    digest = sha256(draft.read_bytes()).hexdigest()
    if versions.get(VERSION, {}).get(TASK, digest) != digest:
        draft.unlink()
        raise DataError(f"{path}: ScanBench {VERSION} has another table of {TASK}; a version never changes: name a new one")
    draft.replace(path)
    write_json(shipped.VERSIONS, versions | {VERSION: versions[BEFORE] | {TASK: digest}})


def summarise(records: list[Record]) -> Record:
    """Publish the table where it is complete, and return what it and the supernets show."""
    table = table_of(records, setting())
    summary: Record = {"rows": sum(r["part"] == TASK for r in records), "diverged": sum("diverged" in r for r in records)}
    if table is None:
        return summary
    publish(table)
    means = dict(zip(map(to_text, table.architectures), table.test.mean(axis=1).tolist(), strict=True))
    regrets: dict[str, list[float]] = {}
    for r in records:
        if r["part"] == "supernet":
            regrets.setdefault(r["method"], []).append(table.regret(tuple(map(tuple, r["derived"]))))
    chance = float(table.test.mean(axis=1).max() - table.test.mean())
    return summary | {
        "warranted": bool(table.warranted),
        "range_in_deviations": round(table.range_in_deviations(), 3),
        "analysis_of_variance_p": float(f"{table.analysis_of_variance_p():.3g}"),
        "noise_ceiling": round(table.noise_ceiling(), 4),
        "test": {name: round(value, 5) for name, value in sorted(means.items(), key=lambda item: -item[1])},
        "regret": {method: span(values) for method, values in regrets.items()} | {"by chance": [round(chance, 5)]},
        "minus_mean": {
            to_text(a): span(row) for a, row in zip(table.architectures, table.test - table.test.mean(axis=0), strict=True)
        },
    }


def draw(summary: Record, path: Path) -> None:
    """Draw every architecture's test accuracy minus the mean of its seed."""
    if "minus_mean" in summary:
        groups = {NAME: dict(sorted(summary["minus_mean"].items(), key=lambda item: -item[1][0]))}
        draw_differences(groups, path, label="test accuracy minus that of all, 95 % interval over seeds", title="Fashion-MNIST")


if __name__ == "__main__":
    fixed.need_images()
    one_thread()
    main(Study(HERE, rows(), work, summarise, draw))
