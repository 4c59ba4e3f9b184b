"""The page of a search: how sure its choice is, what was chosen, and how that came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmsearch.engine.log import direction_history
from lmsearch.genotype import Genotype
from lmsearch.report.findings import short
from lmsearch.report.page.blocks import Cell, Command, Page, Panels, Section, Table, Text, present, section
from lmsearch.report.page.choices import Paths, direction_map, kept_of, moves, scan_paths, worth_table
from lmsearch.report.page.common import (
    changed_command,
    cost_section,
    curves,
    facts_of,
    next_command,
    reproduce_section,
    unfinished,
    words_section,
)
from lmsearch.report.page.folder import Run
from lmsearch.report.page.network import Network, network_of
from lmsearch.report.page.preferences import preference_table
from lmsearch.report.page.words import SEARCH_WORDS, STATUS, status_of
from lmsearch.search.derivation.kinds import own_scores, shares_by_losses
from lmsearch.status import Level, Status

CONSENSUS, DISCRETE = "consensus", "trials"  # a method of derivation; a key that only a search of architectures writes


def search_page(run: Run) -> Page:
    """Return the page of a search, a derivation, or a search over several seeds."""
    paths, genotype = Paths(run.image), run.genotype
    network = network_of(run, genotype.directions if genotype else None)
    tone, verdict, meaning = _findings(run)
    sections = [
        *(choice_sections(run, genotype, network, paths) if genotype else ()),
        section("training", "How the training went", curves(run.history)),
        _checks(genotype.health if genotype else {}),
        _seeds(run),
        _comparison(run) if genotype else None,
        cost_section(run, network if genotype else None, *_spent(run)),
        words_section(SEARCH_WORDS),
        reproduce_section(run),
    ]
    return Page(
        title=f"Search over scan directions: {run.path.name}",
        kind="search",
        status=str(genotype.health.get("status", Status.NOT_TESTED)) if genotype else run.state,
        tone=tone,
        verdict=verdict,
        meaning=meaning,
        advice=_advice(run),
        facts=facts_of(run),
        missing=run.missing,
        sections=present(sections),
        defs=paths.defs,
    )


def _findings(run: Run) -> tuple[str, str, tuple[str, ...]]:
    """Return tone, verdict and meaning."""
    if run.genotype is None:
        verdict, meaning = unfinished(run)
        return "open", verdict, (meaning,)
    health = run.genotype.health
    tone, verdict, meaning = STATUS[status_of(health.get("status")) or Status.NOT_TESTED]
    reason = str(health.get("reason", ""))
    told = (f"In this run: {reason}.",) if reason else ()
    going = (unfinished(run)[0],) if run.writer else ()
    return tone, verdict, (*going, meaning, *told)


def _advice(run: Run) -> tuple[Text | Command, ...]:
    """Return what to do next."""
    if run.genotype is None:
        return (Command(run.command, "Go on with it:"),) if run.command and not run.writer else ()
    beside = next_command("compare", genotype=run.path, seeds=5)
    compare = Command(beside, "Retrain the choice beside random and hand-made directions:")
    retrain = Command(next_command("retrain", genotype=run.path), "Train the network with these directions:")
    status = status_of(run.genotype.health.get("status"))
    warned = [f["advice"] for f in run.genotype.health.get("findings", []) if f["level"] == Level.WARNING and f.get("advice")]
    hints = Text(f"Worth a try before that: {'; '.join(dict.fromkeys(warned))}.") if warned else None
    if status == Status.UNCONFIRMED and run.command and run.get("search.recheck") == 0:
        again = changed_command(run.command, **{"search.recheck": 0.25})
        return Command(again, "Run the recheck; the search itself is not repeated:"), compare, retrain
    return tuple(part for part in (hints, compare, retrain) if part is not None)


def scores_name(genotype: Genotype) -> str:
    """Return what the scores of a genotype are called."""
    method = genotype.derivation.get("of", genotype.derivation.get("method"))
    if DISCRETE in genotype.derivation:
        return f"mean score of architectures ({genotype.derivation.get('metric', 'held-out samples')})"
    return own_scores(method) or "probability"


def margin_name(genotype: Genotype) -> str:
    """Return what the margins of a genotype are called, with their unit where it is not that of the scores."""
    if "of" in genotype.derivation:
        return "margin (share of seeds)"
    return "margin (held-out loss)" if shares_by_losses(genotype.derivation.get("method")) else "margin"


def choice_sections(run: Run, genotype: Genotype, network: Network | None, paths: Paths) -> list[Section | None]:
    """Return map, worth, moves, scan paths and preferences of a choice."""
    scores, stability = scores_name(genotype), genotype.health.get("stability", {})
    votes = {layer: found.get("votes", {}) for layer, found in stability.items()}
    drawn = direction_map(genotype, scores=scores, votes=votes, seeds=int(genotype.health.get("seeds", 0)) if votes else 0)
    walks = scan_paths(genotype.directions, network.grids, paths) if network else None
    lacking = None if network else Text("The run does not tell its network, so the token grids of the layers are not known.")
    return [
        section("map", "Which directions each layer keeps", drawn),
        section("worth", "Worth and margins", worth_table(genotype, scores=scores, margin=margin_name(genotype))),
        section("moves", "How they moved during the search", _moves(run)),
        section("paths", "The scan paths of each layer", walks, lacking),
        section("preferences", "Shallow against deep, window against raster", preference_table(genotype.layers)),
    ]


def _moves(run: Run) -> Panels | Text | None:
    """Return the charts of what the log tells of each direction, or a line that it tells nothing."""
    found = direction_history([dict(line) for line in run.history])
    if found is None:
        return Text("Nothing was recorded of single directions while the search trained.") if run.history else None
    drawn = moves(found.layers, kept_of(run), what=found.label)
    return drawn or Text(f"The {found.label.partition(',')[0]} of directions was recorded once, so nothing can be seen to move.")


def _checks(health: Mapping[str, Any]) -> Section | None:
    """Return what the detectors found, warnings first."""
    found = sorted(health.get("findings", []), key=lambda f: f["level"] == Level.OK)
    meant = [f["meaning"] + (f". To try: {f['advice']}." if f["advice"] else "") for f in found]
    rows: list[tuple[Cell, ...]] = [
        (f["name"], f["level"], short(f["value"]), text) for f, text in zip(found, meant, strict=True)
    ]
    table = Table(
        "Every check, warnings first; in brackets what is wanted.",
        ("check", "says", "measured", "what was measured"),
        tuple(rows),
    )
    return section("checks", "Why it says so: the checks", table if rows else None)


def _seeds(run: Run) -> Section | None:
    """Return the seeds side by side."""
    if not run.parts:
        return None
    rows: list[tuple[Cell, ...]] = []
    for part in run.parts:
        health = part.genotype.health if part.genotype else {}
        rows.append((part.path.name, str(health.get("status", part.state)), str(health.get("reason", ""))))
    table = Table("Each seed is a search of its own.", ("seed", "status", "why"), tuple(rows))
    return section("seeds", "The seeds side by side", table)


def _comparison(run: Run) -> Section | None:
    """Return where the comparison stands: a search alone does not retrain anything."""
    measured = {key: value for key, value in run.metrics.items() if isinstance(value, int | float)}
    rows: list[tuple[Cell, ...]] = [(key.replace("_", " "), value) for key, value in measured.items()]
    table = Table("What the search measured, of the searched network before it is retrained.", ("what", "value"), tuple(rows))
    said = Text(
        "A search does not train random, hand-made or published choices. lmsearch compare does, each from scratch and alike, and"
        " its page holds the result."
    )
    command = Command(next_command("compare", genotype=run.path, seeds=5))
    return section("comparison", "Beside other choices", table if rows else None, said, command)


def _spent(run: Run) -> list[tuple[str, str]]:
    """Return what a discrete search spent."""
    steps = run.metrics.get("branch_scan_steps")
    return [] if steps is None else [("branch-scan steps of the search", f"{steps:,.0f}")]
