"""What a sweep found: a row per trial, the best one, the Pareto front, and the command that runs a trial again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from lmsearch.figures.trials import front_figure, history_figure
from lmsearch.sweep.study import FAILED, Sweep, retried
from lmsearch.trials.storage import LOST
from lmsearch.words import as_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 20  # rows of the table on screen


@dataclass(frozen=True)
class Row:
    """One trial as the tables show it; `values` is empty unless it is complete."""

    number: int
    state: str
    values: tuple[float, ...]
    params: dict[str, Any]
    seconds: float | None
    run_dir: str
    note: str


def rows_of(study: optuna.Study, sweep: Sweep) -> list[Row]:
    """Return a row per trial that was started: the best first, those without a value last."""
    trials = study.get_trials(deepcopy=False)
    again = retried(trials)
    rows = [_row(t, sweep, again) for t in trials if t.state != TrialState.WAITING]
    sign = -1.0 if sweep.goal.directions[0] == "maximize" else 1.0
    return sorted(rows, key=lambda row: (not row.values, sign * row.values[0] if row.values else 0.0, row.number))


def front_of(study: optuna.Study, rows: list[Row]) -> list[Row]:
    """Return the trials that no other beats in every metric, the best in the first metric first; empty where none is complete.

    Of one metric that is the best trial alone, the first of equal ones.
    """
    if not any(row.values for row in rows):
        return []
    if len(study.directions) == 1:
        return rows[:1]
    numbers = {trial.number for trial in study.best_trials}
    return [row for row in rows if row.number in numbers]


def words_of(sweep: Sweep, row: Row) -> list[str]:
    """Return the key=value words of a trial, without its run directory."""
    return [*sweep.overrides, *(sweep.parameters[key].word(value) for key, value in row.params.items())]


def command_of(sweep: Sweep, row: Row) -> str:
    """Return the command that runs a trial again, as a shell takes it."""
    return shlex.join(["lmsearch", sweep.task, *words_of(sweep, row)])


def summary(sweep: Sweep, rows: list[Row], front: list[Row], *, versions: list[str]) -> dict:
    """Return the content of results.json; `versions` of Optuna drew the trials."""
    best = front[0] if front else None
    return {
        "sweep": sweep.identity()
        | {"sampler": sweep.sampler, "pruner": sweep.pruning.method, "seed": sweep.seed, "optuna": versions},
        "best": best and {"trial": best.number, "values": _named(sweep, best), "command": command_of(sweep, best)},
        "pareto": [row.number for row in front],
        "trials": [_record(sweep, row) for row in rows],
    }


def csv_of(sweep: Sweep, rows: list[Row]) -> list[list[object]]:
    """Return the columns and a line per trial: number, state, metrics, parameters, seconds, run directory and note."""
    lines: list[list[object]] = [["trial", "state", *sweep.goal.metrics, *sweep.parameters, "seconds", "run_dir", "note"]]
    for row in rows:
        values = row.values or [""] * len(sweep.goal.metrics)
        params = [as_text(row.params[key]) if key in row.params else "" for key in sweep.parameters]
        lines.append([row.number, row.state, *values, *params, row.seconds, row.run_dir, row.note])
    return lines


def table_of(sweep: Sweep, rows: list[Row], front: list[Row]) -> Table:
    """Return the table on screen: the first rows, those of the front marked."""
    left_out = f", {len(rows) - SHOWN} more in results.csv" if len(rows) > SHOWN else ""
    table = Table(title=f"lmsearch {sweep.task}: {len(rows)} trials{left_out}")
    for column in ("trial", "state", *sweep.goal.metrics, *sweep.parameters, "note"):
        table.add_column(column, overflow="fold")
    numbers = {row.number for row in front}
    for row in rows[:SHOWN]:
        values = [f"{value:.6g}" for value in row.values] or ["-"] * len(sweep.goal.metrics)
        params = [_short(row.params[key]) if key in row.params else "-" for key in sweep.parameters]
        table.add_row(f"{row.number}{' *' if row.number in numbers else ''}", row.state, *values, *params, row.note)
    return table


def figure_of(sweep: Sweep, rows: list[Row], front: list[Row]) -> Figure:
    """Return the figure that fits the number of metrics."""
    complete = sorted((row for row in rows if row.values), key=lambda row: row.number)
    title = f"lmsearch {sweep.task}: {len(complete)} complete trials of {len(rows)}"
    labels = [f"{metric} ({way})" for metric, way in zip(sweep.goal.metrics, sweep.goal.directions, strict=True)]
    if len(labels) == 1:
        numbers, values = [row.number for row in complete], [row.values[0] for row in complete]
        maximise = sweep.goal.directions[0] == "maximize"
        return history_figure(numbers, values, maximise=maximise, label=labels[0], title=title)
    points, best = ([(row.values[0], row.values[1]) for row in some] for some in (complete, front))
    names = [str(row.number) for row in front]
    return front_figure(points, best, labels=(labels[0], labels[1]), names=names, title=title)


def _row(trial: FrozenTrial, sweep: Sweep, again: set[int]) -> Row:
    """Return the row of a trial that was started."""
    words = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running", "FAIL": "failed"}
    state = "failed" if FAILED in trial.user_attrs else words[trial.state.name]
    complete = trial.state == TrialState.COMPLETE
    return Row(
        number=trial.number,
        state="queued again" if trial.number in again else state,
        values=tuple(trial.values) if complete else (),
        params={key: trial.params[key] for key in sweep.parameters if key in trial.params},
        seconds=round(trial.duration.total_seconds(), 1) if trial.duration else None,
        run_dir=sweep.folder_of(trial),
        note=trial.user_attrs.get("note") or trial.user_attrs.get(LOST, ""),
    )


def _record(sweep: Sweep, row: Row) -> dict:
    """Return a row as JSON."""
    return {
        "trial": row.number,
        "state": row.state,
        "values": _named(sweep, row),
        "params": row.params,
        "seconds": row.seconds,
        "run_dir": row.run_dir,
        "note": row.note,
        "command": command_of(sweep, row),
    }


def _named(sweep: Sweep, row: Row) -> dict[str, float]:
    """Return a row's values under the names of the metrics."""
    return dict(zip(sweep.goal.metrics, row.values, strict=False))


def _short(value: Any) -> str:
    """Return a parameter for the screen."""
    return f"{value:.4g}" if isinstance(value, float) else as_text(value)
