"""The page of an audit: is a search worth its cost on these data?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmsearch.report.page.blocks import Cell, Command, Page, Span, Table, Text, present, section
from lmsearch.report.page.choices import Paths
from lmsearch.report.page.common import (
    changed_command,
    cost_section,
    duration,
    facts_of,
    other_command,
    reproduce_section,
    unfinished,
    words_section,
)
from lmsearch.report.page.folder import Run
from lmsearch.report.page.network import network_of
from lmsearch.report.page.quick import quick_page
from lmsearch.report.page.words import AUDIT_WORDS, SEARCH_WORDS
from lmsearch.stats.digits import beside, correlation, probability
from lmsearch.stats.ranking import LEAST_RANGE

ANSWERS = {
    "yes": ("good", "A search over scan directions is worth its cost here."),
    "no": ("bad", "A search over scan directions is not shown to be worth its cost here."),
    "undecided": ("unsure", "The audit could not decide whether a search is worth its cost here."),
}

USES = {"hand-made directions": "the hand-made directions", "random search": "the best of a few random choices"}


def audit_page(run: Run) -> Page:
    """Return the page of an audit, or of a quick one."""
    if run.get("quick"):
        return quick_page(run)
    paths, result = Paths(), run.result
    answer = result.get("verdict", {})
    network = network_of(run, None) if run.about else None
    spent = [("computing time of the audit", duration(float(result["spent_s"])))] if "spent_s" in result else []
    sections = [
        section("comparison", "The race at an equal budget", _race(result)),
        section("stake", "What is at stake", _spread(result)),
        section("agreement", "Does the search rank architectures as training does?", _agreement(result)),
        section("controls", "The controls", _controls(result)),
        cost_section(run, network, *spent),
        words_section((*AUDIT_WORDS, *SEARCH_WORDS[:4])),
        reproduce_section(run),
    ]
    tone, verdict = ANSWERS.get(answer.get("answer"), ("open", unfinished(run)[0]))
    meaning = tuple(answer.get("sentences", ())) or (unfinished(run)[1],)
    return Page(
        title=f"Audit of a search over scan directions: {run.path.name}",
        kind="audit",
        status=str(answer.get("answer", run.state)),
        tone=tone,
        verdict=verdict,
        meaning=meaning,
        advice=_advice(run),
        facts=facts_of(run),
        missing=run.missing,
        sections=present(sections),
        defs=paths.defs,
    )


def _advice(run: Run) -> tuple[Text | Command, ...]:
    """Return what to do next."""
    result = run.result
    answer = result.get("verdict", {})
    if not answer:
        return (Command(run.command, "Go on with it:"),) if run.command and not run.writer else ()
    if answer["answer"] == "yes":
        return (Command(other_command(run, "search"), "Search:"),)
    use = (Text(f"Use {USES.get(answer['use'], answer['use'])}."),)
    if result.get("few_architectures"):
        return *use, Text("More candidates, or another keep=, give an audit more to compare.")
    minutes = run.get("minutes")
    lacks = any(result.get(part) is None for part in ("controls", "spread", "race")) and result.get("not_done") != []
    if not run.command or run.writer or not lacks or not isinstance(minutes, int | float):
        return use
    again = changed_command(run.command, minutes=f"{2 * minutes:g}")
    return *use, Command(again, "Parts are missing; with more minutes the audit goes on with them:")


def _race(result: Mapping[str, Any]) -> Table | Text:
    """Return the arms of the race."""
    raced = result.get("race")
    if not raced:
        return Text("Too few rounds were complete to compare the ways to choose directions.")
    spans, gaps = raced["test"], raced["search_minus"]
    low, high = min(s["low"] for s in spans.values()), max(s["high"] for s in spans.values())
    reach = max((max(abs(g["low"]), abs(g["high"])) for g in gaps.values()), default=1.0)
    rows: list[tuple[Cell, ...]] = []
    for name, score in spans.items():
        gap = gaps.get(name)
        difference = None if gap is None else Span(gap["low"], gap["mean"], gap["high"], -reach, reach, 0.0)
        rows.append((name, Span(score["low"], score["mean"], score["high"], low, high), difference))
    caption = f"{result.get('tested_on', 'test')} scores, and 95 % intervals over {raced['rounds']} rounds on the same samples."
    return Table(caption[0].upper() + caption[1:], ("way to choose", "score", "search minus this"), tuple(rows))


def _spread(result: Mapping[str, Any]) -> Table | Text:
    """Return how far random architectures differ."""
    wide = result.get("spread")
    if not wide:
        return Text("Too few random architectures were trained twice to tell directions from seeds.")
    ranged = wide["range_in_deviations"]
    size = "difference that an audit of this size shows in four cases of five, in deviations"
    seen = [(size, float(wide["shows_from"]))] if "shows_from" in wide else []
    rows: tuple[tuple[Cell, ...], ...] = (
        ("random architectures trained twice", wide["architectures"]),
        ("range of their scores", wide["range"]),
        ("deviation between two seeds of one architecture", wide["seed_deviation"]),
        ("range in such deviations", beside(ranged, LEAST_RANGE, 4) if ranged is not None else "seeds do not differ"),
        ("p of the analysis of variance", probability(wide["analysis_of_variance_p"])),
        *seen,
        ("noise ceiling of a rank correlation", wide["noise_ceiling"]),
    )
    return Table("How far architectures differ, against how far seeds do.", ("what", "value"), rows)


def _agreement(result: Mapping[str, Any]) -> Table | None:
    """Return the rank correlations of the supernet's scores with training from scratch."""
    agreed = result.get("agreement")
    if not agreed:
        return None
    rows: list[tuple[Cell, ...]] = []
    for name, tau in agreed["tau"].items():
        known = None not in (tau["low"], tau["mean"], tau["high"])
        told = (
            Span(tau["low"], tau["mean"], tau["high"], -1.0, 1.0, 0.0)
            if known
            else correlation(**tau, number=agreed["architectures"])
        )
        rows.append(("alphas" if name == "alpha" else "masked supernet", told))
    caption = f"Kendall's tau over {agreed['architectures']} architectures; 0 by chance, 1 the same order."
    return Table(caption, ("score", "tau"), tuple(rows))


def _controls(result: Mapping[str, Any]) -> Table | Text:
    """Return what the controls showed."""
    tested = result.get("controls")
    if not tested:
        return Text("The controls were not run.")
    planted = "found" if tested["planted_found"] else "missed"
    rows: tuple[tuple[Cell, ...], ...] = (
        (f"the direction {tested['planted']} does all the work", "it is found", planted),
        ("targets are shuffled, so that no direction helps", "nothing is found", str(tested["shuffled_status"])),
    )
    return Table("Tasks with a known answer.", ("control", "right answer", "the search says"), rows)
