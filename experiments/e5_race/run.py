"""E5: at an equal budget, is our search better than random search and than hand-made directions?

python -m experiments.e5_race.run [--only live] [--shard 0/2] [--limit-minutes 30] [--summary]
Rows of the tables run once the tables of experiments/e3_scanbench are complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import optuna
import torch

from experiments.e3_scanbench.analysis import FLIPS
from experiments.e3_scanbench.scores import options_of
from experiments.e3_scanbench.tasks import STRENGTHS, BenchTask, graded, planted_sum
from experiments.e5_race.arms import ARMS, DOMINANCE, SEARCHES, Arena
from experiments.e5_race.verdict import LATER, draw, summarise
from experiments.records import read_records
from experiments.study import EIGHT, Record, Row, Study, main, one_thread
from lmsearch.data import Source
from lmsearch.engine.randomness import key
from lmsearch.engine.train import Precision
from lmsearch.scanbench.spaces import FIRST_SPACES, Space, from_text, to_text
from lmsearch.scanbench.table import Table, load, table_names
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.discrete.evaluators import StandAlone

HERE = Path(__file__).resolve().parent
TABLE_SEEDS, LIVE_INSTANCES, FRESH_INSTANCES, RETRAINED_INSTANCES = range(20), range(12), range(12, 24), range(24, 48)
RETRAINED_ARMS = ("random", "hand-made", "fair", "softmax")
NEW_RUNS = range(1000, 1003)  # trainings of what was shipped, with seeds that no arm saw
LIVE_SPACE = Space(3, 2)  # 28^3 = 21 952 architectures
Trained = dict[tuple[Architecture, int], tuple[float, float]]  # (validation, test) score by architecture and run
EARLIER = tuple(name for name in ARMS if name not in {later.arm for later in LATER.values()})
Shipped = Mapping[str, tuple[Architecture, float]]  # by arm: architecture, test score of the network


def drawn_direction(seed: int) -> str:
    """Return the planted direction of a seed."""
    return str(np.random.default_rng(key(seed, "planted direction")).choice(EIGHT))


def rows() -> list[Row]:
    """Return the live instances, those kept for the mended search and for retraining, then the tables' spaces and seeds."""
    live = [Row("live", (f"instance{instance}", "seed0")) for instance in LIVE_INSTANCES]
    live += [Row("fresh", (f"instance{instance}", "seed0")) for instance in FRESH_INSTANCES]
    live += [Row("retrained", (f"instance{instance}", "seed0")) for instance in RETRAINED_INSTANCES]
    tables = []
    for seed in TABLE_SEEDS:
        direction = drawn_direction(seed)
        if f"sum_{direction.removesuffix('_flip')}" in table_names():
            tables += [Row("table", (space, f"seed{seed}"), {"direction": direction}) for space in FIRST_SPACES]
    return (
        live
        + tables
        + [Row(part, row.words, row.facts) for part in LATER for row in live + tables if row.part == LATER[part].old]
    )


def work(row: Row) -> Record:
    """Run every arm on one instance. Every draw is keyed by the whole row: rows with the same seed share none of them.

    An arm that was added later shares those of the earlier row that it is compared with.
    """
    later = LATER.get(row.part)
    part = later.old if later else row.part
    seed = key(Row(part, row.words).key)
    arms = (later.arm,) if later else RETRAINED_ARMS if part == "retrained" else EARLIER
    if part == "table":
        return on_table(row.words[0], drawn_direction(int(row.words[1].removeprefix("seed"))), seed, arms)
    instance = int(row.words[0].removeprefix("instance"))
    known = trained_before(row.words) if later else {}
    return retrained(instance, seed, arms, known) if part == "retrained" else live(instance, seed, arms)


def trained_before(words: Sequence[str]) -> Trained:
    """Return the scores of the trainings that the earlier row did of what fair and softmax shipped, to be taken over."""
    found: Trained = {}
    for record in read_records(HERE / "results.jsonl.gz"):
        if record.get("part") == "retrained" and record["words"] == list(words):
            for arm in ("fair", "softmax"):
                shipped = from_text(record["shipped"][arm])
                tests = dict(zip((0, *NEW_RUNS), (record["test"][arm], *record["retrained"][arm]), strict=True))
                found |= {(shipped, run): (float("nan"), test) for run, test in tests.items()}
    return found


def on_table(space: str, direction: str, seed: int, arms: Sequence[str]) -> Record:
    """Race for a planted direction: networks come from its table, supernets are trained.

    The table of a reversed direction is that of the direction itself with all directions reversed (experiment e3 checks it).
    """
    table = load(f"sum_{direction.removesuffix('_flip')}").space(space)
    table = table.relabelled(FLIPS) if direction.endswith("_flip") else table
    task = planted_sum(direction)

    def judge(architecture: Architecture, run: int) -> tuple[float, float]:
        drawn = int(np.random.default_rng(key(seed, "training", run)).integers(table.num_seeds))
        return table.score(architecture, drawn), table.mean_test(architecture)

    arena = Arena(task, source_of(f"sum_{direction}"), FIRST_SPACES[space], seed, judge)
    return race(arena, table, arms)


def live(instance: int, seed: int, arms: Sequence[str]) -> Record:
    """Race in the 3-layer space: a graded task whose strengths and images are an instance's own."""
    return race(live_arena(instance, seed), None, arms)


def retrained(instance: int, seed: int, arms: Sequence[str], known: Trained | None = None) -> Record:
    """Race as `live` does, and train what was shipped anew: what an architecture is worth to whoever trains it."""
    arena = live_arena(instance, seed, known)
    shipped = shipped_by(arena, arms)
    tests = {name: [round(arena.judge(a, run)[1], 6) for run in NEW_RUNS] for name, (a, _) in shipped.items()}
    return record(arena, shipped) | {"retrained": tests}


def live_arena(instance: int, seed: int, known: Trained | None = None) -> Arena:
    """Return an instance of the graded task in the 3-layer space, where every architecture is trained that is not `known`."""
    task, source = live_task(instance), source_of(f"graded{instance}")
    alone = dict(known or {})

    def judge(architecture: Architecture, run: int) -> tuple[float, float]:
        if (architecture, run) not in alone:
            alone[architecture, run] = train_alone(task, source, architecture, key(seed, "training", run))
        return alone[architecture, run]

    return Arena(task, source, LIVE_SPACE, seed, judge)


def live_task(instance: int) -> BenchTask:
    """Return the graded task of an instance."""
    dealt = np.random.default_rng(key(instance, "strengths")).permutation(STRENGTHS)
    return graded(f"graded{instance}", dealt.tolist())


@lru_cache(maxsize=1)
def source_of(name: str) -> Source:
    """Return the data of a planted direction or of a live instance, built once."""
    if name.startswith("graded"):
        return live_task(int(name.removeprefix("graded"))).build()
    return planted_sum(name.removeprefix("sum_")).build()


def train_alone(task: BenchTask, source: Source, architecture: Architecture, seed: int) -> tuple[float, float]:
    """Train from scratch and return (validation, test) score."""
    alone = StandAlone(task.spec(source.info, len(architecture)), source, task.recipe, Precision(torch.device("cpu")), seed)
    val, test = alone.val_and_test(architecture)
    return val.score, test.score


def race(arena: Arena, table: Table | None, arms: Sequence[str]) -> Record:
    """Return what these arms shipped, and the budget."""
    shipped = shipped_by(arena, arms)
    found = record(arena, shipped)
    if table is not None:
        found["regret"] = {name: round(table.regret(a), 6) for name, (a, _) in shipped.items()}
        found["percentile"] = {name: round(table.percentile(a), 4) for name, (a, _) in shipped.items()}
    return found


def shipped_by(arena: Arena, names: Iterable[str]) -> Shipped:
    """Return the architecture that each of these arms ships, and its test score."""
    return {name: ARMS[name](arena) for name in names}


def record(arena: Arena, shipped: Shipped) -> Record:
    """Return what was shipped, what the budget was, and what the presets were then."""
    found: Record = {"budget": arena.budget, "evaluations": arena.evaluations, "config": arena.task.digest()}
    presets = {name: asdict(options_of(*words)) for name, words in SEARCHES.items()}
    found["options"] = presets | {"fair": asdict(options_of("search=fair")), "fair, dominance": asdict(options_of(*DOMINANCE))}
    found["shipped"] = {name: to_text(architecture) for name, (architecture, _) in shipped.items()}
    found["test"] = {name: round(test, 6) for name, (_, test) in shipped.items()}
    return found


if __name__ == "__main__":
    one_thread()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the study prints one line per row
    main(Study(HERE, rows(), work, summarise, draw))
