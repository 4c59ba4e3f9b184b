"""The runs in a folder: what each is, whether it is running, and what it found. Nothing is written, and no link is followed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmsearch.engine.lock import owner_of
from lmsearch.engine.run_dir import FAILURE, TRIAL, failure_line
from lmsearch.errors import ConfigError, FileError, LmsearchError
from lmsearch.genotype import FILE
from lmsearch.reading import read_json, read_text
from lmsearch.report.page.folder import FURTHER
from lmsearch.status import RunStatus
from lmsearch.tasks.parts.run_dir import Claim

DEPTH = 4  # folders inside each other in which runs are looked for
# The file that a task writes when it is done. Evaluations, audits and benchmarks carry no marker: their files tell.
DONE = {
    "search": FILE, "derive": FILE, "retrain": "metrics.json", "compare": "comparison.json", "sweep": "results.json",
    "audit": "audit.json", "evaluate": "metrics.json", "bench": "bench.json", "latency": "latency.json",
}  # fmt: skip
UNMARKED = (("audit", "parts.jsonl"), ("audit", "audit.json"), ("bench", "bench.json"), ("latency", "latency.json"))


@dataclass(frozen=True)
class Run:
    """One run: its folder and task, and what its files say. `owner` is who writes into it now, `verdict` one line."""

    path: Path
    task: str
    state: RunStatus
    owner: str | None
    verdict: str
    changed: float  # seconds since the epoch
    size: int  # bytes
    claim: Claim

    @property
    def age_s(self) -> float:
        """Seconds since something in it changed."""
        return max(0.0, time.time() - self.changed)


def runs_in(folder: Path) -> Iterator[Run]:
    """Yield the runs in a folder, which may be one itself, by path; seeds, arms and trials belong to their run.

    Raises ConfigError where there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"runs={str(folder)!r} is no folder; expected one that holds runs, or the run_dir of one")
    yield from _walk(folder, DEPTH)


def _walk(folder: Path, depth: int) -> Iterator[Run]:
    """Yield the runs in a folder and in those inside it."""
    run = read_run(folder)
    if run is not None:
        yield run
        return
    try:
        inside = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except PermissionError:
        return  # what may not be read holds no run of this user's
    for path in inside if depth else ():
        yield from _walk(Path(path), depth - 1)


def read_run(path: Path) -> Run | None:
    """Return what is known of the run in a folder, None where the folder holds none."""
    try:
        claim = Claim.read(path)
    except ConfigError:
        claim = Claim()
    task = claim.task or _unmarked(path)
    if task is None:
        return None
    owner, (changed, size) = owner_of(path), _extent(path)
    state = RunStatus.RUNNING if owner is not None else state_of(path, task, claim)
    return Run(path, task, state, owner, verdict_of(path, task, state), changed, size, claim)


def _unmarked(path: Path) -> str | None:
    """Return the task of a run without a marker, None for a folder that holds none."""
    for task, name in UNMARKED:
        if (path / name).is_file():
            return task
    return "evaluate" if (path / "config.yaml").is_file() and (path / "metrics.json").is_file() else None


def state_of(path: Path, task: str, claim: Claim) -> RunStatus:
    """Return the state of a run that nobody writes into."""
    if (path / FAILURE).exists():
        return RunStatus.FAILED
    if (path / FURTHER).exists():
        return RunStatus.STOPPED
    file = DONE.get(task, "metrics.json")
    parts = claim.parts if file == FILE else ()  # the seeds of a search, of which it may have got more
    done = all((folder / file).exists() for folder in (path, *(path / part for part in parts)))
    if not done and _was_pruned(path):
        return RunStatus.PRUNED
    return RunStatus.FINISHED if done else RunStatus.STOPPED


def _was_pruned(path: Path) -> bool:
    """Tell whether a sweep says of the trial that ran here that it pruned it; a damaged file says nothing."""
    try:
        return _content(path / TRIAL).get("state") == RunStatus.PRUNED
    except FileError:
        return False


def verdict_of(path: Path, task: str, state: RunStatus) -> str:
    """Return in one line what a run found, or why it ended without that; empty where it says nothing."""
    try:
        if state is RunStatus.FAILED:
            return failure_line(read_text(path / FAILURE, where=str(path / FAILURE), error=FileError))
        if state is RunStatus.PRUNED:
            return str(_content(path / TRIAL).get("note", ""))
        return _told(_content(path / DONE.get(task, "metrics.json"))) if state is RunStatus.FINISHED else ""
    except LmsearchError as error:
        return str(error)


def _content(file: Path) -> dict[str, Any]:
    """Return the object in a file, an empty one where there is none; raise FileError where it cannot be read."""
    if not file.is_file():
        return {}
    content = read_json(file, error=FileError)
    return content if isinstance(content, dict) else {}


def _told(content: dict[str, Any]) -> str:
    """Return the verdict in the result file of a task."""
    verdict, health = content.get("verdict"), content.get("health")
    if isinstance(verdict, str):
        return verdict
    if isinstance(verdict, dict):
        what = "a search may pay" if "quick" in content else "search warranted"
        return f"{what}: {verdict.get('answer', 'unknown')}"
    if isinstance(health, dict) and "status" in health:
        return str(health["status"])
    if "pareto" in content:
        return _best(content)
    scores = [(name, value) for name, value in sorted(content.items()) if name.startswith("test_") and isinstance(value, float)]
    judged = [pair for pair in scores if pair[0] == f"test_{content.get('metric')}"]
    shown = (judged or [pair for pair in scores if not pair[0].endswith("loss")] or scores)[:1]
    return "".join(f"{name} {value:.4f}" for name, value in shown)


def _best(content: dict[str, Any]) -> str:
    """Return what the best trial of a sweep gave."""
    best = content.get("best")
    if not isinstance(best, dict) or not isinstance(best.get("values"), dict):
        return "no trial was completed"
    return f"trial {best.get('trial')}: " + ", ".join(f"{name} {value:.6g}" for name, value in best["values"].items())


def _extent(path: Path) -> tuple[float, int]:
    """Return when something in a folder changed last, and how many bytes it holds; links count as themselves."""
    changed, size = path.stat().st_mtime, 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                known = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:  # its run goes on
                continue
            changed, size = max(changed, known.st_mtime) if name != ".lock" else changed, size + known.st_size
    return changed, size
