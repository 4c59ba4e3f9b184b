"""The documentation: it builds without a broken link, its commands and code blocks run, and what is generated is current."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from lmsearch.cli import TASKS, main
from lmsearch.config import compose
from lmsearch.scan.directions import PATTERNS
from lmsearch.settings.catalogue import declared_anywhere

ROOT = Path(__file__).resolve().parent.parent
DOCS, README = ROOT / "docs", ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)
LINES = 90  # of the README
LONGEST = 100  # characters of what --help says of a key, of a word that it takes, and of null
IN_ORDER = ("quickstart", "recipes", "trust", "own-images", "dense", "python")  # each may use the runs of those before
SMALL_NET = ["model.depth=1", "model.embed_dim=8"]
SHORT = ["optim.warmup_epochs=0", "epochs=1"]
TINY = {  # words that make a verb quick; the blocks are for people with more time
    "search": [*SMALL_NET, *SHORT, "search.recheck=0", "search.health_every=0", "overwrite=true"],
    "retrain": [*SHORT, "overwrite=true"],
    "compare": [*SMALL_NET, *SHORT, "seeds=1"],
    "sweep": ["trials=1", "workers=1"],
}
OF_TRIALS = {"search": [*SMALL_NET, "optim.warmup_epochs=0", "epochs=6", "search.recheck=0"], "retrain": SHORT}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, and what the comment before it says of running it."""

    page: Path
    language: str
    mark: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The commands of lmsearch in it, as a shell splits them."""
        lines = [line for line in self.text.splitlines() if line.startswith("lmsearch ")]
        return [shlex.split(line, comments=True)[1:] for line in lines]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield Block(page, found["language"], found["mark"] or "", found["text"])


def of(page: Path, *languages: str) -> list[Block]:
    """Return the blocks of a page in these languages."""
    return [block for block in blocks(page) if block.language in languages]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """Return the script that makes pages and pictures."""
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module("generate")
    finally:
        sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def documents(generator: ModuleType) -> dict[str, str]:
    """Return the pages that it makes."""
    return generator.documents()


def stale(made: dict[str, str], folder: Path) -> list[str]:
    """Return the files that are not what was made just now; `python docs/generate.py` writes them anew."""
    return [name for name, text in made.items() if (folder / name).read_text(encoding="utf-8") != text]


def test_generated_pages_are_current(documents: dict[str, str]) -> None:
    assert stale(documents, DOCS) == []


@pytest.mark.parametrize(
    "names", [("scan_order.svg", "recheck.svg", "argument.svg"), pytest.param((), marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_pictures_are_current(generator: ModuleType, names: tuple[str, ...]) -> None:
    assert stale(generator.pictures(*names), DOCS / "pictures") == []


def test_every_key_is_on_the_page_of_keys(documents: dict[str, str]) -> None:
    missing = [name for name in declared_anywhere() if f"`{name}`" not in documents["keys.md"]]
    assert missing == []


def test_every_direction_stands_in_the_table_of_directions() -> None:
    table = (DOCS / "concepts.md").read_text(encoding="utf-8").partition("## All directions")[2]
    assert [p.usage for p in PATTERNS for name in p.usage.split(", ") if f"`{name}`" not in table] == []


def test_the_docs_build_without_a_warning(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.stem for page in tmp_path.glob("*.html")}
    assert {page.stem for page in DOCS.glob("*.md")} <= pages
    fetched = re.findall(r'(?:src|href)="(https?:[^"]+)"', (tmp_path / "quickstart.html").read_text(encoding="utf-8"))
    assert [address for address in fetched if not address.startswith("https://www.mkdocs.org")] == []


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert len(links) > 10 and [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_on_a_page_are_accepted(page: Path) -> None:
    for block in of(page, "bash"):
        for task, *words in block.commands:
            if task.startswith("-"):
                continue
            assert task in TASKS, f"{page.name}: lmsearch {task}"
            data = (
                ["data=imagefolder"] if task == "evaluate" and "data.root=" in " ".join(words) else []
            )  # else its checkpoint tells
            compose(task, [*data, *(word for word in words if not word.startswith("-"))])


def shortened(task: str, words: list[str]) -> list[str]:
    """Return the words of a command, with those that make it quick."""
    more = list(TINY.get(task, []))
    if task == "sweep":
        of = "retrain" if "task=retrain" in words else "search"
        given = [word.removeprefix("overrides=[").removesuffix("]") for word in words if word.startswith("overrides=")]
        more.append(f"overrides=[{','.join([*given, *OF_TRIALS[of]])}]")
    return [*words, *more]


def run(block: Block, names: dict[str, Any], *, tiny: bool) -> None:
    """Run a block in the present folder: Python in these names, commands in this process."""
    if block.language == "python":
        exec(compile(block.text, block.page.name, "exec"), names)  # noqa: S102 - that is the test
    for task, *words in block.commands if block.language == "bash" else ():
        code = main([task, *(shortened(task, words) if tiny else words)])
        assert code == 0, f"{block.page.name}: lmsearch {task} {shlex.join(words)}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(not b.mark for b in of(page, "python", "bash"))], ids=lambda p: p.stem
)
def test_fast_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in of(page, "python", "bash"):
        if not block.mark:
            run(block, names, tiny=False)


@pytest.mark.slow
def test_pages_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = torch.rand(120, 1, 8, 8)
    for name in IN_ORDER:
        page = DOCS / f"{name}.md"
        (tmp_path / "mine.yaml").write_text(of(DOCS / "recipes.md", "yaml")[0].text)
        names: dict[str, Any] = {"dataset": torch.utils.data.TensorDataset(images, (images.mean((1, 2, 3)) > 0.5).long())}
        for block in of(page, "python", "bash"):
            if not block.mark.startswith("not run"):
                run(block, names, tiny=True)


def test_marks_of_blocks_are_known() -> None:
    marks = {block.mark for page in PAGES for block in blocks(page) if block.mark}
    assert [mark for mark in marks if mark != "slow" and not mark.startswith("not run: ")] == []


def test_help_is_short() -> None:
    long = [
        (name, text)
        for name, key in declared_anywhere().items()
        for text in (key.help, key.unit, key.null, *key.words.values())
        if len(text) >= LONGEST
    ]
    assert long == []


def test_pictures_are_small_and_have_words_for_those_who_cannot_see_them() -> None:
    assert np.all([path.stat().st_size < 100_000 for path in (DOCS / "pictures").iterdir()])
    for page in PAGES:
        assert all(len(text) > 20 for text in re.findall(r"!\[([^\]]*)\]\(", page.read_text(encoding="utf-8"))), page.name
