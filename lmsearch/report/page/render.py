"""A page written out: one HTML file without any request, Markdown, and JSON."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import lmsearch
from lmsearch.report.page import draw
from lmsearch.report.page.blocks import Block, Cell, Command, Heat, Listing, Page, Panels, Table, Terms, Text, plain, shown

SCHEMA, VERSION = "lmsearch.report", 1
HERE = Path(__file__).resolve().parent
PIPE = str.maketrans({"|": "\\|", "\n": " "})


@lru_cache(maxsize=1)
def _template() -> Any:
    """Return the compiled template."""
    from jinja2 import Environment, StrictUndefined  # slow to import, and needed for a page only
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.globals |= {
        "kind_of": _kind_of,
        "is_map": lambda table: any(isinstance(cell, Heat) for row in table.rows for cell in row),
        "shown": shown,
        "drawing": Markup,  # what this package drew, names in it escaped
        "draw_span": lambda cell: Markup(draw.span(cell)),
        "draw_dots": lambda cell: Markup(draw.dots(cell)),
    }
    return environment.from_string((HERE / "page.html.j2").read_text(encoding="utf-8"))


def _kind_of(value: Block | Cell) -> str:
    """Return what a block or a cell is, in a word."""
    if isinstance(value, str) or value is None:
        return "words"
    return "number" if isinstance(value, int | float) else type(value).__name__.lower()


def to_html(page: Page) -> str:
    """Return the page as one HTML file."""
    css = (HERE / "page.css").read_text(encoding="utf-8")
    html: str = _template().render(page=page, css=css, version=lmsearch.__version__)
    return html


def to_json(page: Page) -> dict[str, Any]:
    """Return the page as values for report.json."""
    return {"schema": SCHEMA, "version": VERSION, "lmsearch": lmsearch.__version__} | plain(page)


def to_markdown(page: Page) -> str:
    """Return the page as Markdown; drawings are told in words."""
    lines = [f"# {page.title}", "", f"**{page.verdict}** ({page.status})", ""]
    lines += ["## What it means", "", *(f"- {text}" for text in page.meaning), ""]
    if page.advice:
        lines += ["## What to do next", ""]
        for advice in page.advice:
            lines += [*_markdown(advice), ""]
    if page.missing:
        lines += ["## What is missing", "", *(f"- {text}" for text in page.missing), ""]
    lines += [", ".join(f"{name}: {value}" for name, value in page.facts), ""]
    for part in page.sections:
        lines += [f"## {part.title}", ""]
        for block in part.blocks:
            lines += [*_markdown(block), ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown(block: Block) -> list[str]:
    """Return the lines of a block."""
    if isinstance(block, Text):
        return [block.text]
    if isinstance(block, Command):
        return [*([block.caption, ""] if block.caption else []), "```sh", block.text, "```"]
    if isinstance(block, Terms):
        return [f"- **{word}**: {meaning}" for word, meaning in block.pairs]
    if isinstance(block, Listing):
        return [f"{block.caption}:", "", "```yaml", block.text.rstrip(), "```"]
    if isinstance(block, Panels):
        told = [f"- {panel.alt}" for _, panels in block.groups for panel in panels]
        return [block.caption, "", *dict.fromkeys(told)]
    return _table(block)


def _table(table: Table) -> list[str]:
    """Return a table of Markdown."""
    rows = [[shown(cell).translate(PIPE) for cell in row] for row in table.rows]
    head = [name.translate(PIPE) for name in table.columns]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return [table.caption, "", *lines]
