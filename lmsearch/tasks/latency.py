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
from lmsearch.engine.log import environment
from lmsearch.engine.threads import cores
from lmsearch.errors import ConfigError, DataError, ExportError, did_you_mean
from lmsearch.export.latency import Latency, latencies
from lmsearch.export.variants import VARIANTS, Answering, Subject
from lmsearch.paths import is_exported
from lmsearch.scan.directions import label
from lmsearch.settings.exporting import LatencySettings
from lmsearch.tasks.parts.run_dir import open_run_dir
from lmsearch.tasks.parts.shipped import CPU, test_scores
from lmsearch.tasks.parts.trained import load_answering, load_trained

log = logging.getLogger(__name__)
FILE = "file"  # the variant of a checkpoint that is an exported file


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
    tables = [measure(name, settings.what, batches, threads, settings.repeats) for name in checkpoints]
    text = "\n".join(markdown(table) for table in tables)
    with open_run_dir(settings, "latency", model=tables[0].model) as run_dir:
        found = {"environment": environment(0), "tables": [asdict(table) for table in tables]}
        run_dir.write_json("latency.json", found)
        run_dir.write("latency.md", text)
        tell(text)
        print(f"latency: {run_dir / 'latency.json'}   table: {run_dir / 'latency.md'}")
    return 0


def whole(key: str, value: int | Sequence[int]) -> list[int]:
    """Return a number or a list of them as a list; raise ConfigError for none, or one below 1."""
    values = [value] if isinstance(value, int) else list(value)
    if not values or min(values) < 1:
        raise ConfigError(f"{key}={value} is not accepted; expected whole numbers from 1 on")
    return values


def measure(checkpoint: str, what: Sequence[str], batches: Sequence[int], threads: Sequence[int], repeats: int) -> Table:
    """Return the table of one checkpoint."""
    absent: dict[str, str] = {}
    answering: dict[str, Answering] = {}
    if is_exported(Path(checkpoint)):
        file, spec, info = load_answering(checkpoint, CPU, backend="auto")
        answering[FILE] = Answering(
            lambda: load_answering(checkpoint, CPU, backend="auto")[0], Path(checkpoint).stat().st_size, info.num_classes
        )
    else:
        net, spec, info = load_trained(checkpoint, CPU, backend="auto")
        for name in what:
            try:
                answering[name] = VARIANTS[name](Subject(net, spec, info, checkpoint))
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
