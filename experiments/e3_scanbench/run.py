"""ScanBench: train every architecture of three small spaces from scratch, on planted tasks and on real digits.

python -m experiments.e3_scanbench.run [--only digits] [--shard 0/2] [--limit-minutes 30] [--summary]
The summary writes the tables of lmsearch/scanbench/tables/ for the tasks that are complete, results.json and the figure.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from experiments.e3_scanbench.analysis import draw, summarise
from experiments.e3_scanbench.scores import NUM_SEEDS, score_all, score_fair, score_strict
from experiments.e3_scanbench.tasks import SCORED, TASKS, BenchTask
from experiments.study import Record, Row, Study, main, one_thread
from lmsearch.data import Source
from lmsearch.engine.train import Precision
from lmsearch.scanbench.spaces import FIRST_SPACES, from_text, to_text
from lmsearch.search.discrete.evaluators import StandAlone

HERE = Path(__file__).resolve().parent
SUPERNETS = {"scores": score_all, "fair": score_fair, "strict": score_strict}  # how parts named scores_<task> etc. are made


def rows() -> list[Row]:
    """Return a row per task, seed and architecture, whole seeds first, and one per supernet after the tasks it is for."""
    found = [row for task in SCORED for row in alone(task)]
    found += [row for kind in SUPERNETS for task in SCORED for row in supernets(kind, task)]
    return found + [row for task in TASKS if task not in SCORED for row in alone(task)]


def supernets(kind: str, task: str) -> list[Row]:
    """Return the rows of one task's supernets."""
    return [Row(f"{kind}_{task}", (short(name), f"seed{seed}")) for name in FIRST_SPACES for seed in range(NUM_SEEDS)]


def alone(task: str) -> list[Row]:
    """Return the rows of one table."""
    return [
        Row(task, (short(name), to_text(architecture), f"seed{seed}"))
        for seed in range(TASKS[task].num_seeds)
        for name, space in FIRST_SPACES.items()
        for architecture in space.architectures()
    ]


def short(space: str) -> str:
    """Return the name of a space in one word."""
    return space.replace(" ", "").replace(",", "-")


@lru_cache(maxsize=1)
def source_of(task: str) -> Source:
    """Return the data of a task, built once."""
    return TASKS[task].build()


def work(row: Row) -> Record:
    """Train one architecture with one seed, or one supernet."""
    if row.part in TASKS:
        return train_alone(TASKS[row.part], source_of(row.part), row)
    kind, task = row.part.split("_", maxsplit=1)
    space = next(space for name, space in FIRST_SPACES.items() if short(name) == row.words[0])
    return SUPERNETS[kind](TASKS[task], source_of(task), space, int(row.words[1].removeprefix("seed")))


def train_alone(task: BenchTask, source: Source, row: Row) -> Record:
    """Return validation and test scores of one architecture: accuracies, or minus the squared error."""
    architecture, seed = from_text(row.words[1]), int(row.words[2].removeprefix("seed"))
    precision = Precision(torch.device("cpu"))
    alone = StandAlone(task.spec(source.info, len(architecture)), source, task.recipe, precision, seed)
    val, test = alone.val_and_test(architecture)
    return {
        "val": round(val.score, 6), "val_loss": round(val.loss, 6), "test": round(test.score, 6),
        "test_loss": round(test.loss, 6), "config": task.digest(),
    }  # fmt: skip


if __name__ == "__main__":
    one_thread()
    main(Study(HERE, rows(), work, summarise, draw))
