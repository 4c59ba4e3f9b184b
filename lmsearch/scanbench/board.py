"""The leaderboard of ScanBench: what methods chose on its tables, judged alike. docs/scanbench.md says how to add one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import numpy as np

from lmsearch.errors import DataError, did_you_mean, short
from lmsearch.paths import PACKAGE
from lmsearch.reading import read_json
from lmsearch.scanbench.spaces import SPACES, as_architecture, space_of
from lmsearch.scanbench.table import Table, table_names, versions
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.stats.intervals import over_seeds

SCHEMA, VERSION = "lmsearch.scanbench.leaderboard", 1
FILE = PACKAGE / "scanbench" / "leaderboard.json"


@dataclass(frozen=True)
class Entry:
    """One method on one space of one table, over `runs` independent runs.

    `regret`, with its 95 % interval over runs, is how much the best architecture of the space is ahead in mean test score, in the
    units of the table's metric; `percentile` is the share of the space that is better; `cost`, in branch-scan steps, is what one
    run spends, without the training of what it chose. `source` says who ran it and how to run it again.
    """

    method: str
    scanbench: str
    table: str
    space: str
    cost: float
    runs: int
    regret: float
    regret_low: float
    regret_high: float
    percentile: float
    source: str


def judge(table: Table, choices: Sequence[Architecture], *, method: str, cost: float, source: str, version: str = "") -> Entry:
    """Return the entry of a method that chose these architectures, one per independent run, all of one space.

    `version` is that of ScanBench; "" takes that of the table, or the newest where the table was not loaded from one. Raises
    DataError for fewer than two runs, for an architecture that is not in the table, or in another space than the first, and for a
    version, cost or source that no leaderboard takes.
    """
    choices = [as_architecture(choice) for choice in choices]
    if len(choices) < 2:
        raise DataError(f"{len(choices)} run of {method}; a leaderboard entry needs two or more")
    (space, *others) = dict.fromkeys(map(space_of, choices))
    if others:
        raise DataError(f"{method} chose architectures of {space} and {others[0]}; an entry is about one space")
    regrets = over_seeds([table.regret(choice) for choice in choices])
    share = float(np.mean([table.percentile(choice) for choice in choices]))
    mean, low, high, share = (round(value, 6) for value in (regrets.mean, max(0.0, regrets.low), regrets.high, share))
    version = version or table.version or versions()[-1]
    entry = Entry(method, version, table.task, space, cost, len(choices), mean, low, high, share, source)
    if wrong := _fault(entry):
        raise DataError(f"{method}: {wrong}")
    return entry


def leaderboard() -> tuple[Entry, ...]:
    """Return the entries of the shipped leaderboard, the smallest regret of every table and space first."""
    content = read_json(FILE, error=DataError)
    if (content.get("schema"), content.get("version")) != (SCHEMA, VERSION):
        raise DataError(f"{FILE}: schema {short(content.get('schema'))} version {short(content.get('version'))} is not supported")
    found = [_entry(number, values) for number, values in enumerate(content.get("entries", ()))]
    return tuple(sorted(found, key=lambda entry: (entry.table, entry.space, entry.regret)))


def _entry(number: int, values: Any) -> Entry:
    """Return one entry; raise DataError where it lacks a field, has another, or names what ScanBench has not."""
    names = [field.name for field in fields(Entry)]
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        raise DataError(f"{FILE}: entry {number} has other fields than {', '.join(names)}")
    entry = Entry(**values)
    where = f"{FILE}: entry {number}, {short(entry.method)}"
    if wrong := _fault(entry):
        raise DataError(f"{where}: {wrong}")
    if entry.table not in table_names() or entry.space not in SPACES or entry.runs < 2:
        raise DataError(f"{where}, names no table or space, or has fewer than two runs")
    return entry


def _fault(entry: Entry) -> str:
    """Return what is wrong with an entry of any table, "" for nothing."""
    if entry.scanbench not in versions():
        return f"version={short(entry.scanbench)} is no version of ScanBench{did_you_mean(str(entry.scanbench), versions())}"
    if not isinstance(entry.source, str) or not entry.source.strip():
        return "source is empty; it says who ran the method and how to run it again"
    for name in ("cost", "runs", "regret", "regret_low", "regret_high", "percentile"):
        value = getattr(entry, name)
        if not isinstance(value, Real) or not math.isfinite(value):
            return f"{name}={short(value)} is no finite number"
    return "" if entry.cost >= 0 else f"cost={entry.cost:g} is below 0"
