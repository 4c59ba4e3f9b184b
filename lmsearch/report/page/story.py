"""From run folders to a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lmsearch.engine.run_dir import FAILURE
from lmsearch.report.page.audit import audit_page
from lmsearch.report.page.blocks import Command, Listing, Page, present, section
from lmsearch.report.page.compare import compare_page
from lmsearch.report.page.folder import Run
from lmsearch.report.page.search import search_page
from lmsearch.report.page.several import several_page
from lmsearch.report.page.sweep import sweep_page
from lmsearch.report.page.training import training_page
from lmsearch.status import RunStatus

KINDS: Mapping[str, Callable[[Run], Page]] = {
    "search": search_page, "compare": compare_page, "audit": audit_page, "sweep": sweep_page, "retrain": training_page,
}  # fmt: skip


def page_of(run: Run, search: Run | None = None) -> Page:
    """Return the page of one run; `search` is the run whose choice a comparison is about, where that is known."""
    page = compare_page(run, search) if search is not None else KINDS[run.task](run)
    return failed_page(run, page) if run.state is RunStatus.FAILED else page


def failed_page(run: Run, page: Page) -> Page:
    """Return the page of a run that an error ended: the error first, then what there is nevertheless."""
    before = (f"Before that it had found: {page.verdict}",) if run.ended else ()
    told = ("What it had saved is still there.", *before)
    again = (Command(run.command, "When the cause is mended, the same command goes on with it:"),) if run.command else ()
    return replace(
        page, status=str(run.state), tone="bad", verdict=f"This run failed: {run.error}", meaning=told, advice=again,
        sections=present([section("error", "The error", Listing(f"The whole message ({FAILURE})", run.failure)), *page.sections]),
    )  # fmt: skip


def page_of_all(runs: Sequence[Run]) -> Page:
    """Return the page of several runs side by side."""
    return several_page(runs, [page_of(run) for run in runs])
