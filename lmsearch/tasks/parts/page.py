"""The page that a run leaves in its folder: report.html, report.md, report.json and card.png."""

from __future__ import annotations

import io
import logging
import shlex
from dataclasses import replace

import numpy as np
from omegaconf import DictConfig
from PIL import Image

from lmsearch.config import compose, settings_of
from lmsearch.context import LEAVING_PAGES, tell
from lmsearch.data import Source
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import ConfigError, LmsearchError, first_line
from lmsearch.figures.card import Tile, card
from lmsearch.reading import object_in
from lmsearch.report.arms import SEARCHED
from lmsearch.report.page.blocks import Heat, Page, Table
from lmsearch.report.page.folder import ABOUT, IMAGE, Run, read_run
from lmsearch.report.page.render import SCHEMA, to_html, to_json, to_markdown
from lmsearch.report.page.story import page_of
from lmsearch.settings.shared import Training
from lmsearch.settings.tasks import TASKS
from lmsearch.tasks.parts.build import build_data, model_options
from lmsearch.tasks.parts.retold import command_of

log = logging.getLogger(__name__)
HTML, MARKDOWN, JSON, CARD = "report.html", "report.md", "report.json", "card.png"
LARGEST = 224  # pixels of a side of the example image
MOST_LAYERS = 40  # rows of the card's map
SHARED = ("data", "model", "task", "runs", "seeds")  # facts that stand on the card


def note_network(run_dir: RunDir, spec: ModelSpec, source: Source) -> None:
    """Write about.json, which tells the network without its directions, and example.png, an image of the validation set."""
    options = {key: value for key, value in spec.options.items() if key != "directions"}
    run_dir.write_json(ABOUT, {"model": spec.name, "options": options, "data": source.info.name})
    if run_dir.world.main and (image := example_image(source)) is not None:
        run_dir.write(IMAGE, image)


def example_image(source: Source) -> bytes | None:
    """Return the first image of the validation set as PNG, small; None where it cannot be read."""
    try:
        pixels = source.val.eval_batch(np.array([0])).inputs
    except LmsearchError:
        return None
    if not len(pixels):  # unreadable, and skipped
        return None
    values = pixels[0].double().numpy()  # (C, H, W)
    if len(source.info.mean) == len(values):
        values = values * np.reshape(source.info.std, (-1, 1, 1)) + np.reshape(source.info.mean, (-1, 1, 1))
    if values.min() < -0.01 or values.max() > 1.01:  # no image of [0, 1]
        values = (values - values.min()) / (np.ptp(values) or 1.0)
    if len(values) != 3:
        values = np.repeat(values.mean(0, keepdims=True), 3, axis=0)
    image = Image.fromarray((values.clip(0.0, 1.0) * 255).round().astype(np.uint8).transpose(1, 2, 0))
    image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def leave_page(run_dir: RunDir) -> None:
    """Write the page of the run that this process has just done, and print where it is; the last line of a task.

    What goes wrong here is said in one line, and the run stands: its results are written.
    """
    if not run_dir.world.main or not LEAVING_PAGES.get():
        return
    try:
        run = with_command(read_run(run_dir.path, mine=True))
        write_page(run_dir, page_of(run, search_behind(run)))
    except Exception as error:  # noqa: BLE001 - nothing of a page is worth the result of hours
        again = shlex.quote(f"run_dir={run_dir}")
        log.error("the page was not drawn (%s); lmsearch report %s tries again", first_line(error), again, extra={"cause": error})
        return
    tell(f"page: {run_dir / HTML}")


def write_page(run_dir: RunDir, page: Page) -> None:
    """Write the four files of a page; the first tells that they are one."""
    run_dir.write_json(JSON, to_json(page))
    run_dir.write(HTML, to_html(page))
    run_dir.write(MARKDOWN, to_markdown(page))
    run_dir.write_image(CARD, card_of(page))


def has_page(folder: RunDir) -> bool:
    """Tell whether a folder holds a page that lmsearch wrote, as its report.json says."""
    return object_in(folder / JSON).get("schema") == SCHEMA


def card_of(page: Page) -> Image.Image:
    """Return the card of a page: its verdict, and the map of directions where it has one."""
    table = next((b for s in page.sections if s.name == "map" for b in s.blocks if isinstance(b, Table)), None)
    every = table.rows if table else ()
    rows = [row for row in every if str(row[0]).endswith(f": {SEARCHED}")] or every  # of several arms this one
    tiles = [[Tile(cell.share, cell.kept) for cell in row[1:] if isinstance(cell, Heat)] for row in rows[:MOST_LAYERS]]
    facts = [f"{name}: {value}" for name, value in page.facts if name in SHARED or name.startswith("test ")]
    return card(
        title=page.title, status=page.status, tone=page.tone, verdict=page.verdict, facts=facts, tiles=tiles,
        columns=table.columns[1:] if table else (), caption="layers from top to bottom; framed: kept",
    )  # fmt: skip


def with_command(run: Run) -> Run:
    """Return the run with the command that gives it again, where its configuration tells."""
    if not run.config:
        return run
    task = "derive" if "genotypes" in run.config else run.task
    try:
        return replace(run, command=command_of(task, run.config))
    except (LmsearchError, AttributeError, TypeError) as error:  # a configuration that somebody has changed by hand
        return replace(run, missing=(*run.missing, f"the command cannot be told from config.yaml: {first_line(error)}"))


def search_behind(run: Run) -> Run | None:
    """Return the search whose choice a comparison is about, where its folder is still there."""
    genotype = run.get("genotype")
    if run.task != "compare" or not isinstance(genotype, str):
        return None
    try:
        found = read_run(genotype)
    except ConfigError:  # a file, a shipped name, or gone
        return None
    return found if found.task == "search" else None


def with_network(run: Run) -> Run:
    """Return a run of version 0.1.0, which wrote down neither network nor image, with both as its data give them now."""
    if run.about or run.task == "sweep" or not run.command:
        return run
    try:
        settings = _settings(run)
        source = build_data(settings.data)
    except LmsearchError as error:
        return replace(run, missing=(*run.missing, f"its network is not known: {error}"))
    about = {"model": settings.model.name, "options": model_options(settings, source.info), "data": source.info.name}
    return replace(run, about=about, image=run.image or example_image(source))


def _settings(run: Run) -> Training:
    """Return the configuration of a run as this version has it; raise ConfigError where that is not possible."""
    _, task, *words = shlex.split(run.command)
    cfg: DictConfig = compose(task, words)
    settings = settings_of(TASKS[task], cfg)
    if not isinstance(settings, Training):
        raise ConfigError(f"lmsearch {task} is told neither data nor model")
    return settings
