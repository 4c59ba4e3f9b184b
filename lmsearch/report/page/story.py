"""From run folders to a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lmsearch.report.page.audit import audit_page
from lmsearch.report.page.blocks import Page
from lmsearch.report.page.compare import compare_page
from lmsearch.report.page.folder import Run
from lmsearch.report.page.search import search_page
from lmsearch.report.page.several import several_page
from lmsearch.report.page.sweep import sweep_page
from lmsearch.report.page.training import training_page

KINDS: Mapping[str, Callable[[Run], Page]] = {
    "search": search_page, "compare": compare_page, "audit": audit_page, "sweep": sweep_page, "retrain": training_page,
}  # fmt: skip


def page_of(run: Run, search: Run | None = None) -> Page:
    """Return the page of one run; `search` is the run whose choice a comparison is about, where that is known."""
    return compare_page(run, search) if search is not None else KINDS[run.task](run)


def page_of_all(runs: Sequence[Run]) -> Page:
    """Return the page of several runs side by side."""
    return several_page(runs, [page_of(run) for run in runs])
