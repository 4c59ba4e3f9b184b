"""A table of ScanBench: the validation and test scores of every architecture and seed on one task.

Shapes: A architectures; S seeds. Scores are accuracies, or minus the mean squared error: higher is better.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lmsearch.errors import DataError, did_you_mean, short
from lmsearch.files import write_text
from lmsearch.paths import PACKAGE
from lmsearch.reading import read_json
from lmsearch.scanbench.spaces import SPACES, as_architecture, from_text, space_of, to_text
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.stats import ranking
from lmsearch.stats.rounding import tied

SCHEMA, VERSION = "lmsearch.scanbench", 1
DIGITS = 5  # after the point, of scores in files
STEP = 10.0**-DIGITS  # a difference of means that is no larger may be rounding: it counts as a tie
VERSIONS = PACKAGE / "scanbench" / "versions.json"
FOLDER = PACKAGE / "scanbench" / "tables"


@dataclass(frozen=True, eq=False)
class Table:
    """`val` and `test` (A, S) follow `architectures`; `config` is the SHA-256 of data, network and recipe (in `setting`).

    `version` is that of ScanBench which it was loaded from; "" for any other table.
    """

    task: str
    metric: str
    config: str
    setting: Mapping[str, Any]
    architectures: tuple[Architecture, ...]
    val: np.ndarray
    test: np.ndarray
    version: str = ""

    @property
    def num_seeds(self) -> int:
        """Seeds per architecture."""
        return self.val.shape[1]

    @cached_property
    def candidates(self) -> tuple[str, ...]:
        """The directions that architectures are made of, in candidate order."""
        return tuple(dict.fromkeys(name for architecture in self.architectures for layer in architecture for name in layer))

    @cached_property
    def row(self) -> dict[Architecture, int]:
        """Row of every architecture."""
        return {architecture: number for number, architecture in enumerate(self.architectures)}

    def space(self, name: str) -> Table:
        """Return the part of the table that is one space of lmsearch.scanbench.spaces.SPACES, which may hold nothing."""
        if name not in SPACES:
            raise DataError(f"{name!r} is not a space of ScanBench{did_you_mean(name, SPACES)}")
        rows = [n for n, architecture in enumerate(self.architectures) if space_of(architecture) == name]
        chosen = tuple(self.architectures[n] for n in rows)
        return replace(self, architectures=chosen, val=self.val[rows], test=self.test[rows])

    def score(self, architecture: Architecture, seed: int) -> float:
        """Return the validation score of one training."""
        if not 0 <= seed < self.num_seeds:
            raise DataError(f"seed={seed} is not in the table of {self.task}; it holds seeds 0 to {self.num_seeds - 1}")
        return float(self.val[self._row(architecture), seed])

    def mean(self, architecture: Architecture) -> float:
        """Return the validation score, mean over seeds."""
        return float(self.val[self._row(architecture)].mean())

    def mean_test(self, architecture: Architecture) -> float:
        """Return the test score, mean over seeds."""
        return float(self.test[self._row(architecture)].mean())

    def regret(self, architecture: Architecture) -> float:
        """Return how much better the best architecture of the same space is in mean test score: 0 for the best."""
        return float(self._peers(architecture).max() - self.mean_test(architecture))

    def percentile(self, architecture: Architecture) -> float:
        """Return the share of the architectures of the same space with a better mean test score: 0 for the best."""
        peers = tied(self._peers(architecture), STEP)
        return float((peers > self.mean_test(architecture)).mean())

    def noise_ceiling(self) -> float:
        """Return how well another mean over as many seeds would agree with the mean validation scores (stats.ranking)."""
        return ranking.noise_ceiling(self._scores(), step=STEP)

    def range_in_deviations(self) -> float:
        """Return best minus worst mean validation score in standard deviations over seeds."""
        return ranking.range_in_deviations(self._scores())

    @property
    def warranted(self) -> bool:
        """False where architectures differ by less than two standard deviations over seeds, or as architectures that are all
        alike may (5 % level): search is not warranted."""
        return ranking.differ(self.range_in_deviations(), self.analysis_of_variance_p())

    def analysis_of_variance_p(self) -> float:
        """Return how likely architectures that are all alike differ so in validation score (stats.ranking)."""
        return ranking.architectures_differ(self._scores(), same_seeds=True)

    def relabelled(self, names: Mapping[str, str]) -> Table:
        """Return the table of the task that this one becomes when directions are renamed; layers stay in candidate order."""
        renamed = [tuple(tuple(names[d] for d in layer) for layer in a) for a in self.architectures]
        order = {frozenset_layers(a): n for n, a in enumerate(renamed)}
        rows = [order[frozenset_layers(a)] for a in self.architectures]
        return replace(self, val=self.val[rows], test=self.test[rows])

    def _scores(self) -> np.ndarray:
        """Validation scores (A, S) of at least one architecture."""
        if not self.architectures:
            raise DataError(
                f"this table of {self.task} holds no architectures; table.space(name) is a part of the table it is taken of"
            )
        return self.val

    def _row(self, architecture: Architecture) -> int:
        architecture = as_architecture(architecture)
        if architecture not in self.row:
            raise DataError(
                f"architecture {to_text(architecture)!r} is not in the table of {self.task}; "
                "directions stand in candidate order, and spaces are " + ", ".join(SPACES)
            )
        return self.row[architecture]

    def _peers(self, architecture: Architecture) -> np.ndarray:
        """Mean test scores of the architectures of the same space."""
        self._row(architecture)
        return self.space(space_of(architecture)).test.mean(axis=1)


def frozenset_layers(architecture: Architecture) -> tuple[frozenset[str], ...]:
    """Return an architecture without the order of directions inside a layer."""
    return tuple(frozenset(layer) for layer in architecture)


def table_names() -> tuple[str, ...]:
    """Return the tasks that have a table."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def versions() -> tuple[str, ...]:
    """Return the versions of ScanBench, oldest first: each names its tables by their SHA-256, and none ever changes."""
    return tuple(_versions())


def _versions() -> dict[str, dict[str, str]]:
    return read_json(VERSIONS, error=DataError)


def load(task: str, *, version: str | None = None) -> Table:
    """Load the shipped table of a task, such as "sum_h", "graded" or "digits", as it is in a version (None: the newest).

    Raises DataError for another name or version, and where the file is not the table of that version.
    """
    path = FOLDER / f"{task}.json"
    if task not in table_names():
        raise DataError(f"{task!r} has no table in ScanBench{did_you_mean(task, table_names())}")
    known = _versions()
    version = list(known)[-1] if version is None else version
    if version not in known:
        raise DataError(f"version={short(version)} is no version of ScanBench{did_you_mean(str(version), known)}")
    if task not in known[version]:
        raise DataError(f"{task!r} has no table in ScanBench {version}{did_you_mean(task, known[version])}")
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != known[version][task]:
        raise DataError(f"{path}: its SHA-256 {found[:16]} is not that of ScanBench {version} ({known[version][task][:16]})")
    return replace(read_table(path), version=version)


def read_table(path: Path) -> Table:
    """Read one table; raise DataError, naming the file, where it is damaged or of another version."""
    content = read_json(path, error=DataError)
    try:
        if (content["schema"], content["version"]) != (SCHEMA, VERSION):
            raise DataError(f"{path}: schema {short(content['schema'])} version {short(content['version'])} is not supported")
        val, test = np.array(content["val"], dtype=float), np.array(content["test"], dtype=float)
        architectures = tuple(from_text(text) for text in content["architectures"])
        names = (content["task"], content["metric"], content["config"], content["setting"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a table of ScanBench ({error})") from error
    if val.shape != test.shape or val.ndim != 2 or not val.size or len(val) != len(architectures):
        raise DataError(f"{path}: {len(architectures)} architectures but scores of shape {val.shape} and {test.shape}")
    return Table(*names, architectures, val, test)


def write_table(table: Table, path: Path) -> None:
    """Write a table: one line per architecture, scores rounded to DIGITS digits."""
    head = {"schema": SCHEMA, "version": VERSION, "task": table.task, "metric": table.metric, "config": table.config}
    lines = [json.dumps(head | {"setting": table.setting}, sort_keys=True)[:-1]]
    lines.append(_rows("architectures", [to_text(a) for a in table.architectures]))
    lines.append(_rows("val", table.val.round(DIGITS).tolist()))
    lines.append(_rows("test", table.test.round(DIGITS).tolist()))
    write_text(path, ",\n".join(lines) + "\n}\n")


def _rows(name: str, values: Sequence[object]) -> str:
    return f'"{name}": [\n' + ",\n".join(json.dumps(v) for v in values) + "\n]"
