"""lmsearch report: one page on what a run found, or on several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from lmsearch.config import settings_of
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import ConfigError
from lmsearch.reading import is_same
from lmsearch.report.page.blocks import Page
from lmsearch.report.page.folder import RESULTS, Run, read_run
from lmsearch.report.page.story import page_of, page_of_all
from lmsearch.settings.report import Report
from lmsearch.tasks.parts.page import (
    CARD,
    HTML,
    JSON,
    MARKDOWN,
    has_page,
    search_behind,
    with_command,
    with_network,
    write_page,
)
from lmsearch.tasks.parts.runs import read_run as run_in


def run(cfg: DictConfig) -> int:
    """Write the page, and print its verdict and where it is. A run that goes on is only read."""
    settings = settings_of(Report, cfg)
    if (settings.run_dir is None) == (settings.runs is None):
        raise ConfigError("lmsearch report needs one of run_dir=<folder> and runs=[a,b] out=<folder>; see lmsearch report --help")
    if settings.runs is None:
        page, folder = page_of_one(str(settings.run_dir)), settings.out or settings.run_dir
    else:
        page, folder = page_of_several(settings.runs), settings.out
    if folder is None:
        raise ConfigError("lmsearch report runs=[...] needs out=<folder>, in which the page is written")
    out = RunDir(Path(folder))
    if settings.run_dir is None or not is_same(folder, settings.run_dir):
        refuse_others(out, overwrite=settings.overwrite)
    out.make(key="run_dir" if settings.out is None else "out")
    write_page(out, page)
    print(f"{page.status}: {page.verdict}")
    for text in page.missing:
        print(f"missing: {text}")
    print(f"text: {out / MARKDOWN}   values: {out / JSON}   card: {out / CARD}")
    print(f"page: {out / HTML}")
    return 0


def refuse_others(out: RunDir, *, overwrite: bool) -> None:
    """Raise ConfigError where a page would replace that of another run or, unless `overwrite`, what is no page of lmsearch."""
    held = run_in(out.path)
    if held is not None and held.task in (*RESULTS, "derive"):
        raise ConfigError(f"out={str(out)!r} holds a run of lmsearch {held.task}, whose page would be lost; name another folder")
    there = [name for name in (HTML, MARKDOWN, JSON, CARD) if (out / name).exists()]
    if there and not overwrite and not has_page(out):
        raise ConfigError(f"{out / there[0]} is no page of lmsearch; name another out=, or overwrite=true to replace it")


def page_of_one(folder: str) -> Page:
    """Return the page of one run."""
    found = read_whole(folder, key="run_dir")
    return page_of(found, search_behind(found))


def page_of_several(folders: str | Sequence[str]) -> Page:
    """Return the page of several runs; raise ConfigError for fewer than two, or one given twice."""
    names = [folders] if isinstance(folders, str) else list(folders)
    if len(names) < 2:
        raise ConfigError(f"runs=[{', '.join(names)}] needs at least two folders; for one give run_dir=")
    places = [Path(name).resolve() for name in names]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise ConfigError(f"runs: {names[number]} is given twice; give each run once")
    return page_of_all([read_whole(name, key="runs") for name in names])


def read_whole(folder: str, *, key: str) -> Run:
    """Read a run with its command and, of an older version, with its network."""
    return with_network(with_command(read_run(folder, key=key)))
