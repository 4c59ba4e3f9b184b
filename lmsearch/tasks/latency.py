"""lmsearch latency: how long trained networks take per batch, in PyTorch, compiled and as exported files, and their accuracy."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lmsearch.config import settings_of
from lmsearch.context import tell
from lmsearch.data.info import DataInfo
from lmsearch.engine.checkpoint import CHECKPOINT, ModelSpec
from lmsearch.engine.log import environment
from lmsearch.engine.threads import cores
from lmsearch.errors import ConfigError, DataError, ExportError, FileError, did_you_mean
from lmsearch.export.latency import Latency, latencies
from lmsearch.export.variants import VARIANTS, Answering, Subject
from lmsearch.paths import is_exported
from lmsearch.reading import read_json, user_path
from lmsearch.scan.directions import label
from lmsearch.settings.exporting import LatencySettings
from lmsearch.tasks.parts.run_dir import open_run_dir
from lmsearch.tasks.parts.shipped import CPU, test_scores
from lmsearch.tasks.parts.trained import load_answering, load_trained

log = logging.getLogger(__name__)
FILE = "file"  # the variant of a checkpoint that is an exported file
JSON = "latency.json"


@dataclass(frozen=True)
class Table:
    """What was measured of one checkpoint: its directions, latencies, sizes in bytes, scores, and what could not be measured."""

    checkpoint: str
    model: str
    directions: tuple[tuple[str, ...], ...]
    img_size: tuple[int, int]
    rows: list[Latency]
    bytes: dict[str, int]
    metric: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Opened:
    """A checkpoint that was read; without a subject it is an exported file."""

    checkpoint: str
    spec: ModelSpec
    info: DataInfo
    subject: Subject | None = None


def run(cfg: DictConfig) -> int:
    """Measure every checkpoint, print a table of each, and write latency.json and latency.md."""
    settings = settings_of(LatencySettings, cfg)
    for name in settings.what:
        if name not in VARIANTS:
            raise ConfigError(f"what={name!r} is not a way to run a network{did_you_mean(str(name), VARIANTS)}")
    threads, batches = whole("thread_counts", settings.thread_counts), whole("batches", settings.batches)
    if max(threads) > cores():
        raise ConfigError(f"thread_counts={max(threads)} is not accepted; this process may use 1 to {cores()}")
    checkpoints = [settings.checkpoint] if isinstance(settings.checkpoint, str) else list(settings.checkpoint)
    if not settings.what and not all(is_exported(Path(name)) for name in checkpoints):
        raise ConfigError(f"what=[] leaves no way to run {checkpoints[0]}; accepted: {', '.join(VARIANTS)}")
    opened = [open_checkpoint(name) for name in checkpoints]  # one that cannot be read is found before anything is measured
    with open_run_dir(settings, "latency", model=default_name(checkpoints)) as run_dir:
        refuse_others(run_dir.path / JSON, checkpoints)
        tables = [measure(one, settings.what, batches, threads, settings.repeats) for one in opened]
        text = "\n".join(markdown(table) for table in tables)
        found = {"environment": environment(0), "tables": [asdict(table) for table in tables]}
        run_dir.write_json(JSON, found)
        run_dir.write("latency.md", text)
        tell(text)
        print(f"latency: {run_dir / JSON}   table: {run_dir / 'latency.md'}")
    return 0


def whole(key: str, value: int | Sequence[int]) -> list[int]:
    """Return a number or a list of them as a list; raise ConfigError for none, or one below 1."""
    values = [value] if isinstance(value, int) else list(value)
    if not values or min(values) < 1:
        raise ConfigError(f"{key}={value} is not accepted; expected whole numbers from 1 on")
    return values


def default_name(checkpoints: Sequence[str]) -> str:
    """Return what the default folder is called after: the run or file of the first checkpoint, and how many more there are."""
    first = user_path(checkpoints[0])
    name = first.parent.name if first.name == CHECKPOINT else first.stem if first.is_file() else first.resolve().name
    return name if len(checkpoints) == 1 else f"{name}-and-{len(checkpoints) - 1}"


def refuse_others(file: Path, checkpoints: Sequence[str]) -> None:
    """Raise ConfigError where a table is there that is about other checkpoints, or that is none of ours."""
    if not file.exists():
        return
    content = read_json(file, error=FileError)
    tables = content.get("tables") if isinstance(content, dict) else None
    known = [table.get("checkpoint") for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []
    if known != list(checkpoints):
        told = f"is about {', '.join(map(str, known))}" if known else "is no table of lmsearch"
        raise ConfigError(f"{file} {told} and would be lost; choose another run_dir=")


def open_checkpoint(checkpoint: str) -> Opened:
    """Return a trained network, or what is known of an exported file, which every measurement reads anew."""
    if is_exported(Path(checkpoint)):
        _, spec, info = load_answering(checkpoint, CPU, backend="auto")
        return Opened(checkpoint, spec, info)
    net, spec, info = load_trained(checkpoint, CPU, backend="auto")
    return Opened(checkpoint, spec, info, Subject(net, spec, info, checkpoint))


def measure(opened: Opened, what: Sequence[str], batches: Sequence[int], threads: Sequence[int], repeats: int) -> Table:
    """Return the table of one checkpoint."""
    checkpoint, spec, info = opened.checkpoint, opened.spec, opened.info
    absent: dict[str, str] = {}
    answering: dict[str, Answering] = {}
    if opened.subject is None:
        answering[FILE] = Answering(
            lambda: load_answering(checkpoint, CPU, backend="auto")[0], Path(checkpoint).stat().st_size, info.num_classes
        )
    else:
        for name in what:
            try:
                answering[name] = VARIANTS[name](opened.subject)
            except ExportError as error:
                absent[name] = str(error)
                log.warning("%s: not measured: %s", name, error)
    rows = [
        row
        for name, one in answering.items()
        for row in latencies(name, one, info, batches=batches, threads=threads, repeats=repeats)
    ]
    metric, scores = scored(answering, spec, checkpoint)
    directions = tuple(tuple(map(label, layer)) for layer in spec.directions)
    sizes = {name: one.size for name, one in answering.items()}
    return Table(checkpoint, spec.name, directions, info.img_size, rows, sizes, metric, scores, absent)


def scored(answering: Mapping[str, Answering], spec: Any, checkpoint: str) -> tuple[str | None, dict[str, float]]:
    """Return metric and score of every variant on the test set of the training; none where the data are not at hand."""
    try:
        return test_scores(answering, spec, checkpoint)
    except (ConfigError, DataError) as error:
        log.warning("%s: accuracy was not measured: %s", checkpoint, error)
        return None, {}


def markdown(table: Table) -> str:
    """Return a table in Markdown: milliseconds per call, images per second, size and score of every variant."""
    sets = list(dict.fromkeys(", ".join(layer) for layer in table.directions))
    score = table.metric or "accuracy"
    lines = [
        f"## {table.checkpoint}",
        "",
        f"{table.model}, {table.img_size[0]}x{table.img_size[1]} pixels, directions {'; '.join(sets)}",
        "",
        f"| variant | threads | batch | min ms | median ms | std ms | images/s | bytes | {score} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.rows:
        times = " | ".join(f"{1e3 * value:.3f}" for value in (row.min_s, row.median_s, row.std_s))
        own = f"{table.scores[row.variant]:.4f}" if row.variant in table.scores else "-"
        rate = f"{row.batch / row.median_s:.0f}"
        lines.append(f"| {row.variant} | {row.threads} | {row.batch} | {times} | {rate} | {table.bytes[row.variant]} | {own} |")
    lines += [f"\n{name} was not measured: {why}" for name, why in table.absent.items()]
    return "\n".join(lines) + "\n"
