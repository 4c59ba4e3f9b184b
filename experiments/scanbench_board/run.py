"""Write the leaderboard of ScanBench: our discrete searches replayed on the tables, and what the supernets of e3 derived.

python -m experiments.scanbench_board.run  # about a minute; nothing is trained
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from experiments.records import read_records
from experiments.scanbench_fashion import run as fashion
from lmsearch import scanbench
from lmsearch.files import write_text
from lmsearch.scanbench.board import FILE, SCHEMA, VERSION, Entry
from lmsearch.scanbench.replaying import best_of
from lmsearch.scanbench.spaces import SPACES, in_candidate_order
from lmsearch.search.discrete.trials import build_strategy

STUDIES = Path(__file__).parent.parent
ROWS = STUDIES / "e3_scanbench" / "results.jsonl.gz"
TABLES = ("sum_h", "graded", "digits", fashion.TASK)  # those on which supernets were trained
REPLAYED = ("random", "local", "evolution")
STEPS = {"sum_h": 150, "graded": 150, "digits": 198, fashion.TASK: fashion.STEPS}  # of one training
RUNS, POPULATION = 100, 3
REPLAYS, E3, FASHION = OURS = (  # the sources of our entries
    "lmsearch, python -m experiments.scanbench_board.run",
    "lmsearch, experiments/e3_scanbench",
    "lmsearch, experiments/scanbench_fashion",
)
SUPERNETS = {"strict_": "search=fair", "scores_": "search=darts"}  # how the keys of e3's rows begin: the method
SPACE_WORDS = {"2layers-top1": "2 layers, top 1", "1layer-top2": "1 layer, top 2", "1layer-top4": "1 layer, top 4"}


def replayed() -> Iterator[Entry]:
    """Yield the discrete searches, at the cost of training an eight-branch supernet once."""
    for task in [name for name in TABLES if name in scanbench.table_names()]:
        whole = scanbench.load(task)
        for name, space in SPACES.items():
            table, evaluations = whole.space(name), len(space.candidates) // space.keep
            if not table.architectures:
                continue
            for method in REPLAYED:
                strategy = build_strategy(method, population=POPULATION, tournament=2)
                if method == "evolution" and evaluations <= POPULATION:
                    continue  # it never breeds: what it tries is what random search tries
                runs = (scanbench.replay(table, strategy, evaluations=evaluations, seed=seed) for seed in range(RUNS))
                cost = float(evaluations * STEPS[task] * space.depth * space.keep)
                yield scanbench.judge(table, list(map(best_of, runs)), method=f"search={method}", cost=cost, source=REPLAYS)


def derived() -> Iterator[Entry]:
    """Yield what the supernets of e3 derived, five of each kind on every table and space."""
    found: dict[tuple[str, str, str], list] = {}
    costs: dict[tuple[str, str, str], float] = {}
    with gzip.open(ROWS, "rt") as lines:
        for row in map(json.loads, lines):
            if "derived" not in row:
                continue
            begin = next(begin for begin in SUPERNETS if row["part"].startswith(begin))
            place = (SUPERNETS[begin], row["part"].removeprefix(begin), SPACE_WORDS[row["words"][0]])
            found.setdefault(place, []).append(in_candidate_order(row["derived"]))
            costs[place] = float(row["cost"])
    for (method, task, space), choices in found.items():
        table = scanbench.load(task).space(space)
        yield scanbench.judge(table, choices, method=method, cost=costs[method, task, space], source=E3)


def derived_on_fashion() -> Iterator[Entry]:
    """Yield what the supernets on Fashion-MNIST derived, once its table and their rows are there."""
    rows = [r for r in read_records(fashion.HERE / "results.jsonl.gz") if r.get("part") == "supernet"]
    for method in fashion.SUPERNETS:
        own = [r for r in rows if r["method"] == method]
        if len(own) > 1 and fashion.TASK in scanbench.table_names():
            table, choices = (
                scanbench.load(fashion.TASK),
                [in_candidate_order(r["derived"], fashion.SMALL.candidates) for r in own],
            )
            yield scanbench.judge(table, choices, method=method, cost=float(own[0]["cost"]), source=FASHION)


def main() -> None:
    """Write the file and print it; entries of others stay as they are."""
    others = [entry for entry in scanbench.leaderboard() if entry.source not in OURS]
    entries = sorted([*replayed(), *derived(), *derived_on_fashion(), *others], key=lambda e: (e.table, e.space, e.regret))
    lines = ",\n".join("  " + json.dumps(asdict(entry)) for entry in entries)
    write_text(FILE, f'{{"schema": "{SCHEMA}", "version": {VERSION}, "entries": [\n{lines}\n]}}\n')
    for entry in scanbench.leaderboard():
        span = f"{entry.regret:.4f} [{entry.regret_low:.4f}, {entry.regret_high:.4f}]"
        print(f"{entry.table:8} {entry.space:16} {entry.method:18} regret {span}  better: {entry.percentile:.0%}")


if __name__ == "__main__":
    main()
