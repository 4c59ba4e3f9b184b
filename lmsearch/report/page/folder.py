"""A run folder as its page sees it: what is there, what is missing or damaged, and whether the run goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmsearch.engine.lock import owner_of
from lmsearch.engine.log import METRICS, read_metrics
from lmsearch.engine.run_dir import FAILURE, TRIAL, failure_line
from lmsearch.errors import ConfigError, LmsearchError
from lmsearch.genotype import FILE, Genotype, load_genotype
from lmsearch.reading import read_json, read_text, read_yaml, user_path
from lmsearch.status import RunStatus

CONFIG, ENVIRONMENT, COST, ABOUT, IMAGE = "config.yaml", "environment.json", "cost.json", "about.json", "example.png"
MARKER, PARTS = "run_id.txt", "parts.jsonl"
FURTHER = "taken_further.txt"  # there while a run that had ended gets more seeds, trials or minutes, and after it was cut then
RESULTS = {  # task: the file that says that it has ended
    "search": FILE, "compare": "comparison.json", "audit": "audit.json", "sweep": "results.json", "retrain": "metrics.json",
}  # fmt: skip
LARGEST_IMAGE = 4 * 2**20  # bytes


@dataclass(frozen=True)
class Run:
    """What a run folder holds. Values that a file would give are empty where it is not there; `missing` says which and why.

    `task` is the command that made it, `writer` who writes into it now. `command` runs it again, where that is known.
    `parts` are the runs inside: seeds of a search.
    """

    path: Path
    task: str
    writer: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)  # comparison.json, audit.json or results.json
    history: tuple[Mapping[str, Any], ...] = ()
    genotype: Genotype | None = None
    image: bytes | None = None
    parts: tuple[Run, ...] = ()
    missing: tuple[str, ...] = ()
    command: str = ""
    trainings: tuple[int, int] = (0, 0)  # of a comparison: done, and to be done
    failure: str = ""  # the traceback of what ended it
    trial: Mapping[str, Any] = field(default_factory=dict)  # what a sweep says of it
    further: str = ""  # how much more it was given, where that has not ended

    @property
    def ended(self) -> bool:
        """True where the run has left its result."""
        return bool(self.genotype if RESULTS[self.task] == FILE else self.metrics if self.task == "retrain" else self.result)

    @property
    def state(self) -> RunStatus:
        """What has become of it."""
        if self.writer:
            return RunStatus.RUNNING
        if self.failure:
            return RunStatus.FAILED
        if self.ended and not self.further:
            return RunStatus.FINISHED
        return RunStatus.PRUNED if self.trial.get("state") == RunStatus.PRUNED else RunStatus.STOPPED

    @property
    def error(self) -> str:
        """The line that names the error that ended it, "" for none."""
        return failure_line(self.failure)

    def get(self, key: str) -> Any:
        """Return the value of a dotted configuration key, None where there is none."""
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


class Reader:
    """Reads the files of one folder; what cannot be read is left out and noted in `missing`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.missing: list[str] = []

    def read(self, name: str, how: Callable[[Path], Any], *, needed: bool = False) -> Any:
        """Return what `how` makes of a file; None where it is not there, or cannot be read."""
        path = self.folder / name
        if not path.is_file():
            if needed:
                self.missing.append(f"{name} is not there")
            return None
        try:
            return how(path)
        except (LmsearchError, OSError) as error:
            self.missing.append(f"{name} cannot be read: {error}")
            return None

    def mapping(self, name: str, *, needed: bool = False) -> dict[str, Any]:
        """Return the mapping in a file of JSON or YAML; an empty one where there is none."""
        content = self.read(name, _parsed, needed=needed)
        if content is not None and not isinstance(content, dict):
            self.missing.append(f"{name} cannot be read: it holds no keys with values")
        return content if isinstance(content, dict) else {}


def _parsed(path: Path) -> Any:
    """Return the content of a file of JSON or YAML."""
    read = read_json if path.suffix == ".json" else read_yaml
    return read(path, error=ConfigError)


def read_run(path: str | Path, *, key: str = "run_dir", mine: bool = False) -> Run:
    """Read a run folder; raise ConfigError, naming the configuration key, where it is none.

    `mine`: this process is the one that writes there, so it is not told as running.
    """
    folder = user_path(path)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ConfigError(f"{key}={path} {what}; give the folder of a search, retrain, compare, audit or sweep")
    try:
        names = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise ConfigError(f"{key}={path} cannot be read ({error.strerror})") from error
    reader = Reader(folder)
    failure = reader.read(FAILURE, _text) or ""
    config = reader.mapping(CONFIG, needed=True)
    task = _task_of(folder, names, config, reader)
    if task is None:
        held = "is empty" if not names else "holds no run of lmsearch search, derive, retrain, compare, audit or sweep"
        raise ConfigError(f"{key}={path} {held}; give the folder that one of these wrote")
    genotype = reader.read(FILE, load_genotype)
    history = reader.read(METRICS, lambda path: read_metrics(path.parent)) or []
    result = reader.mapping(RESULTS[task]) if task in ("compare", "audit", "sweep") else {}
    parts = [_part(folder / name, reader) for name in _part_names(folder, reader)] if task == "search" else []
    image = reader.read(IMAGE, _bytes)
    arms = _part_names(folder, reader) if task == "compare" else []
    done = sum((folder / name / "metrics.json").is_file() for name in arms)
    further = (reader.read(FURTHER, _text) or "").strip()
    if further and (result or genotype):
        reader.missing.append(f"the run was taken further ({further}), which has not ended; this is what it had found before")
    return Run(
        folder, task, None if mine else owner_of(folder), config, reader.mapping(ENVIRONMENT), reader.mapping(COST),
        reader.mapping(ABOUT), reader.mapping("metrics.json"), result, tuple(history), genotype, image,
        tuple(part for part in parts if part is not None), tuple(reader.missing), trainings=(done, len(arms)), failure=failure,
        trial=reader.mapping(TRIAL), further=further,
    )  # fmt: skip


def _text(path: Path) -> str:
    """Return the text of a file."""
    return read_text(path, where=str(path), error=ConfigError)


def _bytes(path: Path) -> bytes:
    """Return the bytes of an image, unless it is too large for a page."""
    if path.stat().st_size > LARGEST_IMAGE:
        raise ConfigError(f"more than {LARGEST_IMAGE:,} bytes")
    return path.read_bytes()


def _task_of(folder: Path, names: set[str], config: Mapping[str, Any], reader: Reader) -> str | None:
    """Return the task whose run a folder holds: by its marker, else by its files; a derivation counts as a search."""
    marker = reader.read(MARKER, _text) or ""
    named = re.match(r"([a-z]+) [0-9a-f]", marker)
    if named and named[1] in RESULTS:
        return named[1]
    if names & {"audit.json", PARTS}:
        return "audit"
    if "comparison.json" in names:
        return "compare"
    if FILE in names and config and "genotype" not in config:
        return "search"
    return "retrain" if names & {"model.safetensors", METRICS} and "genotype" in config else None


def _part_names(folder: Path, reader: Reader) -> list[str]:
    """Return the names of the folders of the seeds of a search, or of the trainings of a comparison."""
    text = reader.read(MARKER, _text) or ""
    return [name for name in text.splitlines()[1:] if re.fullmatch(r"\w[\w.-]*", name)]


def _part(folder: Path, reader: Reader) -> Run | None:
    """Read the folder of one seed; None, and noted, where it holds no run yet."""
    try:
        return read_run(folder)
    except ConfigError:
        reader.missing.append(f"{folder.name}/ holds no run yet")
        return None
