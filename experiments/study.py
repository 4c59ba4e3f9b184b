"""What the studies share: rows that resume, one progress line per row, the machine on record, a summary and a figure.

A study lists its rows; a row is a list of words for `lmsearch search` or `lmsearch retrain` and some facts to group by. Each
finished row is appended to results.jsonl.gz at once and never run again. Run a study from the top of the checkout:
    python -m experiments.e1_planted.run [--only TEXT] [--shard 0/2] [--limit-minutes 30] [--summary]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from experiments.records import Record, append_record, pack_records, read_records
from lmsearch.bench.hardware import hardware
from lmsearch.data.keyed import address_key
from lmsearch.engine.log import environment
from lmsearch.files import write_json
from lmsearch.process import tune_process

EIGHT = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip")


class NotYet(Exception):
    """A row needs the record of another row that is not there."""


@dataclass(frozen=True)
class Row:
    """One unit of work. `facts` are plain values; part and words decide the result and so are the row's key.

    Rows of one `group` need each other, so they run in one shard; a row without a group is one of its own.
    """

    part: str
    words: tuple[str, ...]
    facts: Record = field(default_factory=dict)
    group: str = ""

    @property
    def key(self) -> str:
        """What the row is known by in results.jsonl.gz."""
        return " ".join((self.part, *self.words))


@dataclass(frozen=True)
class Study:
    """`work` turns a row into what it found; `summarise` turns all records so far into results.json; `draw` makes the figure.

    `work` raises NotYet for a row that has to wait for others.
    """

    folder: Path
    rows: Sequence[Row]
    work: Callable[[Row], Record]
    summarise: Callable[[list[Record]], Record]
    draw: Callable[[Record, Path], None]

    @property
    def path(self) -> Path:
        """One JSON line per finished row, and one per machine and commit; --summary packs the file."""
        return self.folder / "results.jsonl.gz"


def main(study: Study) -> None:
    """Run what is left of the study as the command line says, and summarise."""
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose key holds TEXT")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="every N-th row, or group of rows, from the I-th on")
    parser.add_argument("--limit-minutes", type=float, default=None, help="start no row after this time")
    parser.add_argument("--summary", action="store_true", help="run nothing, summarise what is there")
    options = parser.parse_args()
    shard, shards = (int(part) for part in options.shard.split("/"))
    if not options.summary:
        chosen = [row for row in of_shard(study.rows, shard, shards) if options.only in row.key]
        run_rows(study, chosen, limit_s=None if options.limit_minutes is None else 60 * options.limit_minutes)
    elif study.path.exists():
        pack_records(study.path)
    records = records_of(study)
    if records:
        summary = study.summarise(records)
        write_json(study.folder / "results.json", summary | {"environments": environments(study)})
        study.draw(summary, study.folder / "results.png")


def of_shard(rows: Sequence[Row], shard: int, shards: int) -> list[Row]:
    """Return the rows of every `shards`-th group from number `shard` on, in their order."""
    names = dict.fromkeys(row.group or row.key for row in rows)
    mine = set(list(names)[shard::shards])
    return [row for row in rows if (row.group or row.key) in mine]


def one_thread() -> None:
    """Set this process up for networks so tiny that a second thread costs more than it gives.

    The command line sets processes up before it imports PyTorch, because OpenMP reads only once how idle threads wait. With
    one thread none is ever idle, and keeping freed memory works from any moment on: so here it is not too late.
    """
    tune_process()
    torch.set_num_threads(1)


def run_rows(study: Study, rows: Sequence[Row], *, limit_s: float | None) -> None:
    """Run the rows that have no record yet, in order, and append each record as it comes; those that wait come again after."""
    done = {record["key"] for record in records_of(study)}
    left = [row for row in rows if row.key not in done]
    print(f"{study.folder.name}: {len(rows) - len(left)} of {len(rows)} rows done before", flush=True)
    machine, end = record_environment(study), time.perf_counter() + (math.inf if limit_s is None else limit_s)
    while left:
        began, waiting, why = time.perf_counter(), [], ""
        for number, row in enumerate(left, start=1):
            if time.perf_counter() > end:
                print(f"time is up; {len(left) - number + 1 + len(waiting)} rows left: run again to continue")
                return
            try:
                told = run_row(study, row, machine)
            except NotYet as missing:
                waiting, why = [*waiting, row], str(missing)
                continue
            remaining = (time.perf_counter() - began) / number * (len(left) - number) / 60
            print(f"[{number}/{len(left)}, {remaining:.0f} min left] {row.key}: {told}", flush=True)
        if len(waiting) == len(left):
            print(f"{len(left)} rows are not needed or wait for others ({why})")
            return
        left = waiting


def run_row(study: Study, row: Row, machine: str) -> str:
    """Run a row, append its record and return what it found in one line."""
    started, used = time.perf_counter(), time.process_time()
    found = study.work(row)
    took, cpu = (round(clock, 2) for clock in (time.perf_counter() - started, time.process_time() - used))
    record = {"key": row.key, "part": row.part, "words": list(row.words), "environment": machine}
    append_record(study.path, record | {"took_s": took, "cpu_s": cpu} | row.facts | found)
    return f"{brief(found)} ({took:.1f} s)"


def brief(found: Record) -> str:
    """The record's short values in one line."""
    return ", ".join(f"{name}={value}" for name, value in found.items() if len(str(value)) < 60)


def records_of(study: Study) -> list[Record]:
    """Return the records of the study's present rows, in the order of the rows, one for each; facts are as the rows tell now."""
    found = {line["key"]: line for line in read_records(study.path) if "key" in line}
    return [found[row.key] | row.facts for row in study.rows if row.key in found]


def environments(study: Study) -> Record:
    """Return the machines and commits that made the records, by the name that records give."""
    return {line["machine"]: line["environment"] for line in read_records(study.path) if "machine" in line}


def record_environment(study: Study) -> str:
    """Write down machine, versions and commit unless they are there, and return their name."""
    here = {k: v for k, v in environment(0).items() if k != "seed"} | {"hardware": hardware()}
    name = f"{address_key(json.dumps(here, sort_keys=True)) % 16**8:08x}"
    if name not in environments(study):
        append_record(study.path, {"machine": name, "environment": here})
    return name
