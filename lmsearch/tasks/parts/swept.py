"""What a sweep says: each trial as it ends, and in the end what they show."""

from __future__ import annotations

import logging
from functools import partial

import optuna
from rich.console import Console

from lmsearch.config import plain_config
from lmsearch.context import in_full, tell
from lmsearch.engine.run_dir import FAILURE
from lmsearch.errors import SweepError
from lmsearch.report.page.folder import FURTHER
from lmsearch.sweep.results import Row, command_of, csv_of, figure_of, front_of, rows_of, summary, table_of, words_of
from lmsearch.sweep.study import Sweep
from lmsearch.tasks.parts.known import configure
from lmsearch.tasks.parts.page import leave_page
from lmsearch.tasks.parts.run_dir import config_text
from lmsearch.trials.patience import patiently
from lmsearch.trials.storage import note_version

log = logging.getLogger(__name__)
PIPE_WIDTH = 150  # columns where the output is no terminal


class Announcer:
    """Logs every trial that has ended, once."""

    def __init__(self, study: optuna.Study, sweep: Sweep) -> None:
        self.study, self.sweep = study, sweep
        self.told = {row.number for row in self.ended()}

    def ended(self) -> list[Row]:
        """Return the rows of trials that have ended."""
        rows = patiently(partial(rows_of, self.study, self.sweep))
        return sorted((r for r in rows if r.state != "running"), key=lambda row: row.number)

    def __call__(self) -> None:
        for row in self.ended():
            if row.number not in self.told:
                self.told.add(row.number)
                values = "  ".join(f"{m} {v:.6g}" for m, v in zip(self.sweep.goal.metrics, row.values, strict=False))
                log.info("trial %d of %d  %s  %s", row.number, self.sweep.trials, row.state, values or row.note)


def report(study: optuna.Study, sweep: Sweep) -> int:
    """Write results.csv, results.json, best.yaml and the figure, and print the table, the best trial and the paths."""
    rows, versions = patiently(partial(rows_of, study, sweep)), patiently(partial(note_version, study))
    front = front_of(study, rows)
    sweep.run_dir.write_csv("results.csv", csv_of(sweep, rows))
    sweep.run_dir.write_json("results.json", summary(sweep, rows, front, versions=versions))
    for name in (FURTHER, FAILURE):
        sweep.run_dir.remove(name)  # of another command at it
    console = Console()
    console = console if console.is_terminal else Console(width=PIPE_WIDTH)
    if in_full():
        console.print(table_of(sweep, rows, front))
    if not front:
        first = min(rows, key=lambda row: (row.state != "failed", row.state == "queued again", row.number), default=None)
        why = f"; trial {first.number} {first.state}: {first.note}" if first is not None else ""
        leave_page(sweep.run_dir)
        raise SweepError(f"no trial was completed{why}; see {sweep.run_dir / 'results.csv'}")
    best, figure = front[0], "history.png" if len(sweep.goal.metrics) == 1 else "pareto.png"
    sweep.run_dir.write_figure(figure, lambda: figure_of(sweep, rows, front))
    config, _ = configure(sweep.task, words_of(sweep, best))
    sweep.run_dir.write("best.yaml", f"# {command_of(sweep, best)}\n{config_text(plain_config(config))}")
    if len(sweep.goal.metrics) == 2:
        tell(f"Pareto front (*): trials {', '.join(str(row.number) for row in front)}; commands of all in results.json")
    values = ", ".join(f"{m} {v:.6g}" for m, v in zip(sweep.goal.metrics, best.values, strict=True))
    print(f"best{' in ' + sweep.goal.metrics[0] if len(front) > 1 else ''}: trial {best.number}, {values}")
    tell(f"  {command_of(sweep, best)}")
    tell(f"results: {sweep.run_dir / 'results.csv'}, {sweep.run_dir / 'results.json'}   figure: {sweep.run_dir / figure}")
    tell(f"best configuration: {sweep.run_dir / 'best.yaml'}   its run: {best.run_dir}")
    leave_page(sweep.run_dir)
    return 0
