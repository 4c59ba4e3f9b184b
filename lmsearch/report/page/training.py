"""The page of a retraining: what the network reaches, class by class."""

from __future__ import annotations

from lmsearch.data.info import target_kind
from lmsearch.engine.objectives.metrics import METRICS
from lmsearch.report.page.blocks import Cell, Command, Page, Table, Text, present, section
from lmsearch.report.page.choices import Paths, scan_paths
from lmsearch.report.page.common import (
    cost_section,
    curves,
    facts_of,
    next_command,
    reproduce_section,
    unfinished,
    words_section,
)
from lmsearch.report.page.folder import Run
from lmsearch.report.page.network import network_of
from lmsearch.report.page.words import SEARCH_WORDS

CLASSES = "test_class_accuracy"
FEW = 20  # classes up to which each is shown at once


def training_page(run: Run) -> Page:
    """Return the page of a retraining."""
    paths = Paths(run.image)
    network = network_of(run, run.genotype.directions if run.genotype else None)
    walks = scan_paths(run.genotype.directions, network.grids, paths) if run.genotype and network else None
    sections = [
        section("scores", "What it reaches", _scores(run), _classes(run)),
        section("training", "How the training went", curves(run.history)),
        section("paths", "The scan paths of each layer", walks),
        cost_section(run, network),
        words_section(SEARCH_WORDS[:2]),
        reproduce_section(run),
    ]
    score = next((key for key in (f"test_{run.metrics.get('metric')}", "test_accuracy") if key in run.metrics), None)
    what = "" if score is None else score.removeprefix("test_").replace("_", " ")
    told = None if score is None else f"The network reaches {what} {run.metrics[score]:.4f} on the test set."
    alone = "One training says nothing on whether its directions are better than others; lmsearch compare does."
    return Page(
        title=f"Training of a network: {run.path.name}",
        kind="retrain",
        status=run.state,
        tone="good" if told else "open",
        verdict=told or unfinished(run)[0],
        meaning=(alone,) if told else (unfinished(run)[1],),
        advice=_advice(run),
        facts=facts_of(run),
        missing=run.missing,
        sections=present(sections),
        defs=paths.defs,
    )


def _advice(run: Run) -> tuple[Text | Command, ...]:
    """Return what to do next."""
    if not run.metrics:
        return (Command(run.command, "Go on with it:"),) if run.command and not run.writer else ()
    compare = Command(next_command("compare", genotype=run.path, seeds=5), "Compare its directions with others:")
    metric = METRICS.get(str(run.metrics.get("metric")))
    if metric is not None and (kind := target_kind(metric.target)).per_token:  # of which `predict` reads no images
        return (compare,)
    what = "Classify images:" if metric is None or kind.classes else "Let it answer images:"
    return Command(next_command("predict", checkpoint=run.path, images="<folder>"), what), compare


def _scores(run: Run) -> Table | None:
    """Return every number that was measured."""
    rows: list[tuple[Cell, ...]] = [
        (key.replace("_", " "), value)
        for key, value in run.metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return Table("Measured after the training.", ("what", "value"), tuple(rows)) if rows else None


def _classes(run: Run) -> Table | None:
    """Return the accuracy of every class, the worst first."""
    found = run.metrics.get(CLASSES) or {}
    known = sorted(found, key=lambda name: -1.0 if found[name] is None else found[name])
    rows: tuple[tuple[Cell, ...], ...] = tuple((name, found[name]) for name in known)
    caption = "Test accuracy of every class, the worst first."
    return Table(caption, ("class", "accuracy"), rows, folded=len(rows) > FEW) if rows else None
