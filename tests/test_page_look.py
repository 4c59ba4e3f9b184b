"""The page in a browser: on a phone and a desk, in light and dark. Slow, and needs Chromium; accessibility needs axe-core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import Browser, axe, chromium
from page_runs import audit_run, chosen, compare_run, search_run, sweep_run
from test_audit import parts

from lmsearch.cli import main

pytestmark = pytest.mark.slow
MANY = ("h", "h_flip", "v", "v_flip", *(f"w{n}{flip}" for n in range(2, 8) for flip in ("", "_flip")))
RUN_AXE = "axe.run({resultTypes: ['violations']}).then(r => [r.passes.length, r.violations.map(v => [v.id, v.nodes[0].html])])"


def broken(folder: Path) -> Path:
    """Write the folder of a search that did not end, with a damaged log."""
    search_run(folder, chosen(2), about=False)
    (folder / "genotype.json").unlink()
    (folder / "metrics.jsonl").write_text("{\n")
    return folder


PAGES: dict[str, Callable[[Path], Path]] = {
    "search": lambda folder: search_run(folder, chosen(6)),
    "compare": lambda folder: compare_run(folder, chosen(6)),
    "audit": lambda folder: audit_run(folder, parts()),
    "sweep": sweep_run,
    "broken": broken,
    "large": lambda folder: search_run(folder, chosen(33, candidates=MANY), epochs=300),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a headless Chromium."""
    with chromium() as one:
        yield one


@pytest.fixture(scope="module", params=[*PAGES, "several"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of each kind of run."""
    folder = tmp_path_factory.mktemp("pages")
    if request.param == "several":
        runs = [str(search_run(folder / f"s{n}", chosen(4, seed=n), words=[f"seed={n}"])) for n in range(3)]
        assert main(["report", f"runs=[{','.join(runs)}]", f"out={folder / 'out'}"]) == 0
    else:
        assert main(["report", f"run_dir={PAGES[request.param](folder / 'run')}", f"out={folder / 'out'}"]) == 0
    return folder / "out" / "report.html"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_a_page_fits_its_screen_and_asks_for_nothing(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_wrong(browser: Browser, page: Path, dark: bool) -> None:
    source = axe()
    browser.open(page, width=1440, dark=dark)
    browser.evaluate(f"{source};0")
    passed, violated = browser.evaluate(RUN_AXE)
    assert passed > 20 and violated == []
