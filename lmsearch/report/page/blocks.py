"""What a page is made of: plain values that every rendering (HTML, Markdown, JSON) reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from lmsearch.stats.digits import span


@dataclass(frozen=True)
class Span:
    """A cell that draws an estimate and its interval on an axis from `least` to `most`; a reference line stands at `mark`."""

    low: float
    mean: float
    high: float
    least: float
    most: float
    mark: float | None = None


@dataclass(frozen=True)
class Dots:
    """A cell that draws values on an axis from `least` to `most`, the kept ones filled."""

    values: tuple[tuple[float, bool], ...]
    least: float
    most: float


@dataclass(frozen=True)
class Heat:
    """A cell of a map: its text, how strong its colour is (0 to 1, None: no value), and whether it was kept."""

    text: str
    share: float | None
    kept: bool = False


Cell = str | float | int | None | Span | Dots | Heat


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Command:
    """Something to type."""

    text: str
    caption: str = ""


@dataclass(frozen=True)
class Terms:
    """Words with what they mean."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first column names the row. `folded`: long, shown on demand."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    folded: bool = False


@dataclass(frozen=True)
class Listing:
    """Text as it stands in a file, shown on demand."""

    caption: str
    text: str


@dataclass(frozen=True)
class Panel:
    """One small drawing: SVG of its own, what it shows in words, and the line below it."""

    svg: str
    alt: str
    note: str
    key: tuple[tuple[str, str], ...] = ()  # class of a line, and what it stands for


@dataclass(frozen=True)
class Panels:
    """Small drawings side by side, in groups that each have a title ("" for none)."""

    caption: str
    groups: tuple[tuple[str, tuple[Panel, ...]], ...]
    key: tuple[tuple[str, str], ...] = ()  # class of a line, and what it stands for
    wide: bool = False


Block = Text | Command | Terms | Table | Listing | Panels


@dataclass(frozen=True)
class Section:
    """A part of the page; `name` is its anchor."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A whole page: findings first."""

    title: str
    kind: str  # search, compare, ..., or several
    status: str  # one word
    tone: str  # good, unsure, bad or open: how the status is coloured
    verdict: str  # one plain sentence
    meaning: tuple[str, ...]
    advice: tuple[Text | Command, ...]
    facts: tuple[tuple[str, str], ...]  # what was run, in a few words
    missing: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    defs: str = ""  # SVG symbols that drawings use


def section(name: str, title: str, *blocks: Block | None) -> Section | None:
    """Return a section of the blocks that are there, None where none is."""
    there = tuple(block for block in blocks if block is not None)
    return Section(name, title, there) if there else None


def present(sections: Iterable[Section | None]) -> tuple[Section, ...]:
    """Return the sections that there are."""
    return tuple(one for one in sections if one is not None)


def plain(value: Any) -> Any:
    """Return a page, or a part of it, as JSON values; drawings are left out but for what they show in words."""
    if is_dataclass(value) and not isinstance(value, type):
        content = {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.name not in ("svg", "defs")}
        kind = type(value).__name__.lower()
        return content if kind in ("page", "section") else {"type": kind} | content
    return [plain(entry) for entry in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def shown(cell: Cell, *, digits: int = 4) -> str:
    """Return a cell as text."""
    if cell is None:
        return "–"
    if isinstance(cell, Heat):
        return f"{cell.text} kept".strip() if cell.kept else cell.text
    if isinstance(cell, Span):
        if cell.mark is not None:
            return span(cell.mean, cell.low, cell.high, digits)
        return f"{cell.mean:.{digits}f} [{cell.low:.{digits}f}, {cell.high:.{digits}f}]"
    if isinstance(cell, Dots):
        return "" if not cell.values else f"{min(v for v, _ in cell.values):.3f} to {max(v for v, _ in cell.values):.3f}"
    if isinstance(cell, float):
        return number(cell, digits=digits)
    return f"{cell:,}" if isinstance(cell, int) else cell


def number(value: float, *, digits: int = 4) -> str:
    """Return a number in a few characters."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.{digits}f}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.3g}"
