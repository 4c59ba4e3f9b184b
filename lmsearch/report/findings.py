"""What the detectors of a search found, as a table on screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmsearch.status import Level

PIPE_WIDTH = 130  # columns where the output is no terminal


def print_findings(findings: Sequence[Mapping[str, Any]]) -> None:
    """Print one row per finding (name, value, level, meaning, advice), warnings first and with what to try."""
    if not findings:
        return
    table = Table(title="health of the search; in brackets: what is wanted")
    table.add_column("check", no_wrap=True)
    table.add_column("measured", justify="right", overflow="fold", max_width=24)
    table.add_column("", no_wrap=True)
    table.add_column("what it means, and what to try", overflow="fold")
    for found in sorted(findings, key=lambda f: f["level"] == Level.OK):
        told = found["meaning"] if not found["advice"] else f"{found['meaning']}\n-> {found['advice']}"
        style = "yellow" if found["level"] == Level.WARNING else ""
        table.add_row(found["name"], short(found["value"]), Text(found["level"], style=style), Text(told))
    console = Console()
    (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(table)


def short(value: Any) -> str:
    """Return a measured value in a few characters: numbers to three digits, the numbers of a list side by side."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {short(item)}" for name, item in value.items() if item) or "none"
    if isinstance(value, str) or value is None:
        return str(value)
    if isinstance(value, Sequence):
        return " ".join(short(item) for item in value)
    return f"{value:.3g}"
