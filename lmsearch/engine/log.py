"""What a run leaves behind while it runs: config.yaml, environment.json, metrics.jsonl, metrics.json and TensorBoard events."""

from __future__ import annotations

import json
import math
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import lmsearch
from lmsearch.context import setting
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import FileError, short
from lmsearch.figures.tiles import tiles
from lmsearch.paths import PACKAGE
from lmsearch.reading import damaged_line, read_json_lines
from lmsearch.scan.directions import label

if TYPE_CHECKING:
    from torch import nn

METRICS = "metrics.jsonl"
TABLE = "results.csv"
PACKAGES = ("torch", "numpy", "hydra-core", "omegaconf", "optuna", "tensorboard", "safetensors", "triton", "mamba-ssm")

PROBABILITIES, WORTH = "probabilities", "worth"  # of directions: what a line of an epoch may hold by layer and direction


class EndedEarly(Exception):
    """What an observer raises to end a run that others have left behind; the run has not failed."""


Values = Mapping[str, Mapping[str, float]]  # by layer and direction
Observer = Callable[[int, dict[str, float]], None]
_OBSERVER: ContextVar[Observer | None] = ContextVar("observer of epochs", default=None)


def observing(observer: Observer) -> AbstractContextManager[None]:
    """Call observer(epoch, scalars) after every epoch that is logged inside the block; it may stop the run by raising."""
    return setting(_OBSERVER, observer)


def environment(seed: int) -> dict[str, Any]:
    """Return seed, versions, commit and machine as plain values."""
    import torch  # slow to import, and the rest of this file needs it not

    return {
        "seed": seed,
        "lmsearch": lmsearch.__version__,
        "commit": source_commit(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "versions": {package: installed(package) for package in PACKAGES},
    }


@cache
def installed(package: str) -> str | None:
    """Return the version of a package, None where it is not installed; looked up once."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def source_commit() -> str | None:
    """Return the commit of the checkout that lmsearch runs from ("+dirty" with changes), or None outside a checkout.

    It is that of the first run of this process, whose code is imported by then.
    """
    if not (PACKAGE.parent / ".git").exists():
        return None
    git = ["git", "-C", str(PACKAGE.parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no git, or a repository without a commit
        return None
    return commit + ("+dirty" if dirty.strip() else "")


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Return the epochs that metrics.jsonl tells of; raise FileError, naming the line, where one tells of none."""
    lines = read_json_lines(run_dir / METRICS)
    for number, line in enumerate(lines, start=1):
        if (fault := _fault_of(line)) is not None:
            raise damaged_line(f"{run_dir / METRICS}: line {number}", fault)
    return lines


def _fault_of(line: dict[str, Any]) -> str | None:
    """Return what is wrong with a line: it holds the number of an epoch, other numbers, and values by layer and direction."""
    epoch = line.get("epoch")
    if type(epoch) is not int or epoch < 0:
        return "epoch is no number of an epoch"
    values = [(name, value) for name, value in line.items() if name not in (PROBABILITIES, WORTH)]
    for kind in (PROBABILITIES, WORTH):
        layers = line.get(kind, {})
        if not isinstance(layers, dict) or not all(isinstance(mine, dict) for mine in layers.values()):
            return f"{kind} are not numbers by layer and direction"
        values += [pair for mine in layers.values() for pair in mine.items()]
    for name, value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{short(name)} is no number"
    return None


def told_in(line: dict[str, Any]) -> tuple[str, dict[str, dict[str, float]]]:
    """Return what a line says of directions, and its name in the line; probabilities where it says nothing."""
    kind = WORTH if WORTH in line else PROBABILITIES
    return kind, line.get(kind, {})


@dataclass(frozen=True)
class DirectionHistory:
    """How directions moved during a search: at every epoch of `epochs`, by layer and direction, what `label` says.

    A value that was not measured is NaN.
    """

    label: str
    epochs: tuple[int, ...]
    layers: dict[str, dict[str, tuple[float, ...]]]


LABELS = {PROBABILITIES: "probability", WORTH: "worth, held-out loss saved"}


def direction_history(lines: Sequence[dict[str, Any]]) -> DirectionHistory | None:
    """Return how directions moved, of the lines of metrics.jsonl; None where they do not say."""
    found = [(line["epoch"], *told_in(line)) for line in lines]
    told = {epoch: (kind, layers) for epoch, kind, layers in found if layers}
    if not told:
        return None
    epochs, kind = tuple(sorted(told)), told[max(told)][0]
    values = [told[epoch][1] if told[epoch][0] == kind else {} for epoch in epochs]
    names: dict[str, dict[str, None]] = {}
    for value in values:
        for layer, mine in value.items():
            names.setdefault(layer, {}).update(dict.fromkeys(mine))
    layers = {
        layer: {d: tuple(v.get(layer, {}).get(d, math.nan) for v in values) for d in known} for layer, known in names.items()
    }
    return DirectionHistory(LABELS[kind], epochs, layers)


def write_table(run_dir: RunDir) -> None:
    """Write results.csv: a row per line of metrics.jsonl, with the same columns throughout; empty where a line has no value."""
    rows = []
    for line in read_metrics(run_dir.path):
        kind, layers = told_in(line)
        line.pop(kind, None)
        rows.append(line | {f"directions/{layer}/{name}": p for layer, mine in layers.items() for name, p in mine.items()})
    columns = list(dict.fromkeys(name for row in rows for name in row))
    run_dir.write_csv(TABLE, [columns, *([row.get(name, "") for name in columns] for row in rows)])


class RunLog:
    """Metrics of one run, as lines of metrics.jsonl and as TensorBoard scalars under tb/. Use as a context manager."""

    def __init__(self, run_dir: RunDir, *, start_epoch: int = 0) -> None:
        """Continue the log of `run_dir` at `start_epoch`: epochs that will run again, and a cut last line, are dropped."""
        self.run_dir = run_dir
        kept = [line for line in read_metrics(run_dir.path) if line["epoch"] < start_epoch]
        run_dir.write(METRICS, "".join(json.dumps(line) + "\n" for line in kept))
        self.tensorboard = run_dir.events("tb", purge_step=start_epoch)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with nullcontext() if kind is None else suppress(FileError, OSError):  # of a full disk: what ended the block tells more
            if self.tensorboard is not None:
                self.tensorboard.close()
            if self.run_dir.world.main:  # others might read a line that is being written
                write_table(self.run_dir)

    def write(self, epoch: int, values: dict[str, float], *, layers: Values | None = None, worth: Values | None = None) -> None:
        """Log the scalars of one epoch and, of a search, every layer's probability of every direction or its worth."""
        kind, given = (PROBABILITIES, layers) if worth is None else (WORTH, worth)
        told = {layer: {label(d): p for d, p in scores.items()} for layer, scores in (given or {}).items()}
        self.run_dir.append_line(METRICS, json.dumps({"epoch": epoch, **values} | ({kind: told} if told else {})))
        shares = {f"directions/{layer}/{name}": p for layer, mine in told.items() for name, p in mine.items()}
        if self.tensorboard is not None:
            for name, value in (values | shares).items():
                self.tensorboard.add_scalar(name, value, epoch)
            if told:
                self.tensorboard.add_image(kind, np.asarray(tiles(told)), epoch, dataformats="HWC")
        if (observer := _OBSERVER.get()) is not None:
            observer(epoch, values)

    def histograms(self, epoch: int, module: nn.Module) -> None:
        """Log the distribution of the values of every parameter, for TensorBoard; a call takes about as long as a step."""
        if self.tensorboard is not None:
            for name, parameter in module.named_parameters():
                values = parameter.detach().float().cpu()
                if values.isfinite().all():  # dropped branches have an alpha of minus infinity
                    self.tensorboard.add_histogram(name.replace(".", "/", 1), values, epoch)
