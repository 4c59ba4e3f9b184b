"""Runs, and the spaces of which every architecture was trained, for `lmsearch show`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lmsearch.engine.log import METRICS, direction_history, read_metrics
from lmsearch.errors import ConfigError
from lmsearch.figures.compared import race_figure, scatter_figure
from lmsearch.figures.curves import curves_figure
from lmsearch.figures.moves import worth_figure
from lmsearch.genotype import FILE, load_genotype
from lmsearch.reading import is_file, user_path
from lmsearch.report.text import series_lines, spark
from lmsearch.scan.directions import label
from lmsearch.scanbench import SPACES, Table, load, replay
from lmsearch.scanbench.spaces import in_candidate_order, to_text
from lmsearch.search.discrete.strategies import Evolution, LocalSearch, RandomSearch, Strategy
from lmsearch.settings.looking import Show
from lmsearch.status import RunStatus
from lmsearch.tasks.parts.drawn import Drawn, given, lines
from lmsearch.tasks.parts.runs import Run, read_run
from lmsearch.words import first_of

STRATEGIES: dict[str, Strategy] = {
    "at random": RandomSearch(), "one swap at a time": LocalSearch(), "regularised evolution": Evolution(10, 3)
}  # fmt: skip
REPEATS = 20  # of a race
SHOWN = 6  # folders of trainings in a message
UNTRAINED = ("derive", "evaluate", "sweep", "audit", "bench", "latency")  # tasks without a metrics.jsonl
TOP = 5  # architectures that are told of a space


def show_run(settings: Show) -> Drawn:
    """How a run went: what it is, and its losses and scores over the epochs."""
    folder = user_path(given(settings, "run_dir"))
    run = read_run(folder)
    if run is None:
        raise ConfigError(f"run_dir={str(folder)!r} holds no run of lmsearch")
    epochs = read_metrics(folder)
    if not epochs:
        raise ConfigError(f"run_dir={str(folder)!r}: {without_epochs(run)}")
    panels = measures(epochs)
    told = [f"{folder}: {run.task}, {run.state}" + (f" ({run.owner})" if run.owner else ""), run.verdict]
    told += [f"  {name} {measure}: {last(values):.4f}" for measure, own in panels.items() for name, values in own.items()]
    numbers = [line["epoch"] for line in epochs]
    return Drawn(lambda: curves_figure(numbers, panels), lines([line for line in told if line]))


def without_epochs(run: Run) -> str:
    """Return why a run has no epochs to show, or in which folders inside they are."""
    trained = [part for part in run.claim.parts if is_file(run.path / part / METRICS)]
    if trained:
        return f"its trainings are in folders inside, of which one can be shown: {first_of(trained, SHOWN)}"
    if run.task in UNTRAINED or run.state is RunStatus.FINISHED:
        return f"lmsearch {run.task} left no epochs there, so there is nothing to show"
    return "no epoch is done, so there is nothing to show"


def measures(epochs: Sequence[Mapping]) -> dict[str, dict[str, list[float]]]:
    """Return the lines of metrics.jsonl by what they measure, and on what: {"loss": {"train": [...]}}; NaN is missing."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in dict.fromkeys(name for line in epochs for name in line):
        on, _, measure = name.partition("_")
        if on in ("train", "val", "holdout", "test") and measure:
            found.setdefault(measure, {})[on] = [line.get(name, math.nan) for line in epochs]
    return found


def last(values: Sequence[float]) -> float:
    """Return the last value that is a number."""
    return next((value for value in reversed(values) if not math.isnan(value)), math.nan)


def show_worth(settings: Show) -> Drawn:
    """How directions moved during a search."""
    folder = user_path(given(settings, "run_dir"))
    history = direction_history(read_metrics(folder))
    if history is None:
        expected = "expected the run of a supernet's search, or of one seed"
        raise ConfigError(f"run_dir={str(folder)!r}: its metrics.jsonl says nothing of directions; {expected}")
    genotype = load_genotype(folder) if is_file(folder / FILE) else None
    kept = {layer.name: [label(d) for d in layer.directions] for layer in genotype.layers} if genotype else {}
    return Drawn(
        lambda: worth_figure(
            history.epochs, history.layers, kept=kept if genotype else None, label=history.label, title=str(folder)
        ),
        lines(
            [f"{history.label}, epochs {history.epochs[0] + 1} to {history.epochs[-1] + 1}", *series_lines(history.layers, kept)]
        ),
    )


def show_scanbench(settings: Show) -> Drawn:
    """Every architecture of ScanBench's spaces on one task: validation against test."""
    whole = load(settings.table)
    tables = {name: part for name in SPACES if (part := whole.space(name)).architectures}
    marked = {name: mark(settings, table) for name, table in tables.items()}
    if settings.genotype is not None and not any(marked.values()):
        raise ConfigError(f"genotype={settings.genotype!r} is in no space of ScanBench: {', '.join(SPACES)}")
    told = []
    for name, table in tables.items():
        best = sorted(table.architectures, key=table.mean_test, reverse=True)[:TOP]
        warranted = "differ by more than noise" if table.warranted else "differ by no more than noise"
        told.append(
            f"{name}: {len(table.architectures)} architectures, {table.num_seeds} seeds, which {warranted}; best in test:"
        )
        told += [f"  {to_text(architecture)}  {table.mean_test(architecture):.4f}" for architecture in best]
    points = {name: (table.val.mean(1).tolist(), table.test.mean(1).tolist()) for name, table in tables.items()}
    labels = (f"validation {whole.metric}, mean over seeds", "test")
    return Drawn(lambda: scatter_figure(points, labels=labels, marked=marked, title=f"ScanBench: {whole.task}"), lines(told))


def mark(settings: Show, table: Table) -> dict[int, str]:
    """Return the place of the given genotype in a table, and its name; nothing where it is not there."""
    if settings.genotype is None:
        return {}
    directions = load_genotype(settings.genotype).directions
    if not {name for layer in directions for name in layer} <= set(table.candidates):
        return {}
    architecture = in_candidate_order(directions, table.candidates)
    return {table.row[architecture]: to_text(architecture)} if architecture in table.row else {}


def show_race(settings: Show) -> Drawn:
    """Strategies on the largest space of a table: how far the best one so far is from the best of all."""
    whole = load(settings.table)
    name = max(SPACES, key=lambda space: len(whole.space(space).architectures))
    table = whole.space(name)
    curves = {how: [regrets(table, strategy, seed) for seed in range(REPEATS)] for how, strategy in STRATEGIES.items()}
    means = {how: np.mean(runs, axis=0) for how, runs in curves.items()}
    most = float(max(mean.max() for mean in means.values()))
    races = f"mean of {REPEATS} races, over {len(table.architectures) // 2} trainings"
    told = [f"regret in test {whole.metric} on {name} of {whole.task}, {races}"]
    told += [f"  {how:22} {spark(mean.tolist(), least=0.0, most=most)}  {mean[-1]:.4f} at the end" for how, mean in means.items()]
    title = f"ScanBench: {whole.task}, {name}"
    return Drawn(lambda: race_figure(curves, cost="trainings", label=f"regret, test {whole.metric}", title=title), lines(told))


def regrets(table: Table, strategy: Strategy, seed: int) -> list[float]:
    """Return the regret of the best one so far after 1, 2, ... trainings, to half of the space."""
    best = table.test.mean(1).max()
    found: list[float] = []
    score = -math.inf
    for one in replay(table, strategy, evaluations=len(table.architectures) // 2, seed=seed):
        if one.score > score:
            score, regret = one.score, float(best - table.test[table.row[one.architecture]].mean())
        found.append(regret)
    return found
