"""lmsearch status: the runs in a folder, whether they are running, and what they found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmsearch.config import settings_of
from lmsearch.engine.progress import duration
from lmsearch.engine.run_dir import RunDir
from lmsearch.report.page.folder import RESULTS
from lmsearch.settings.looking import Status
from lmsearch.status import RunStatus
from lmsearch.tasks.parts.run_dir import tell_next
from lmsearch.tasks.parts.runs import Run, runs_in

PIPE_WIDTH = 160  # columns where the output is no terminal
STYLES = {
    RunStatus.RUNNING: "cyan", RunStatus.FINISHED: "green", RunStatus.STOPPED: "yellow", RunStatus.PRUNED: "yellow",
    RunStatus.FAILED: "red",
}  # fmt: skip
DAY_S = 86400


def run(cfg: DictConfig) -> int:
    """Print a row per run, and where to look next."""
    settings = settings_of(Status, cfg)
    folder = Path(settings.runs)
    runs = list(runs_in(folder))
    if not runs:
        print(f"no runs in {folder}; a search makes the first one: lmsearch search")
        return 0
    console = Console()
    (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(table_of(runs))
    counts = {state: sum(run.state is state for run in runs) for state in RunStatus}
    print(
        ", ".join(f"{number} {state}" for state, number in counts.items() if number) + f"; {size_text(sum(r.size for r in runs))}"
    )
    if told := [run for run in runs if has_page(run)]:
        tell_next("run_dir", RunDir(max(told, key=lambda run: run.changed).path), "report")
    return 0


def has_page(run: Run) -> bool:
    """Tell whether `lmsearch report` makes a page of a run; of a derivation it does where there is a choice."""
    return run.task in RESULTS or (run.task == "derive" and run.state is RunStatus.FINISHED)


def table_of(runs: Sequence[Run]) -> Table:
    """Return the runs as a table; nothing in it is read as markup."""
    table = Table(title="runs", title_justify="left")
    table.add_column("run", overflow="fold")
    table.add_column("task", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("what it found", overflow="fold")
    table.add_column("changed", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for run in runs:
        found = run.verdict if run.owner is None else run.owner
        row = (
            str(run.path),
            run.task,
            Text(run.state, style=STYLES[run.state]),
            found,
            f"{age(run.age_s)} ago",
            size_text(run.size),
        )
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return table


def age(seconds: float) -> str:
    """Return a time in the largest unit that gives two figures, days too."""
    return duration(seconds) if seconds < 2 * DAY_S else f"{seconds / DAY_S:.0f} days"


def size_text(size: int) -> str:
    """Return a number of bytes for people."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
