"""The page of a quick audit: does order matter on these data at all?"""

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
from lmsearch.report.page.words import AUDIT_WORDS, QUICK_WORDS

ANSWERS = {
    "yes": ("good", "Scan directions matter enough here that a search may pay."),
    "no": ("bad", "This audit shows little for a search over scan directions to find here."),
    "undecided": ("unsure", "Trainings this brief cannot tell whether scan directions matter here."),
}


def quick_page(run: Run) -> Page:
    """Return the page of a quick audit."""
    result = run.result
    answer = result.get("verdict", {})
    network = network_of(run, None) if run.about else None
    spent = [("computing time of the audit", duration(float(result["spent_s"])))] if "spent_s" in result else []
    tone, verdict = ANSWERS.get(answer.get("answer"), ("open", unfinished(run)[0]))
    return Page(
        title=f"Quick audit of scan directions: {run.path.name}",
        kind="audit",
        status=str(answer.get("answer", run.state)),
        tone=tone,
        verdict=verdict,
        meaning=tuple(answer.get("sentences", ())) or (unfinished(run)[1],),
        advice=_advice(run),
        facts=facts_of(run),
        missing=run.missing,
        sections=present(
            [
                section("comparison", "The orders", _orders(result)),
                section("controls", "The controls", _controls(result)),
                cost_section(run, network, *spent),
                words_section((*QUICK_WORDS, *AUDIT_WORDS[-1:])),
                reproduce_section(run),
            ]
        ),
        defs=Paths().defs,
    )


def _advice(run: Run) -> tuple[Text | Command, ...]:
    """Return what to do next."""
    answer = run.result.get("verdict", {})
    if not answer:
        return (Command(run.command, "Go on with it:"),) if run.command and not run.writer else ()
    if answer["answer"] == "yes":
        return (
            Command(
                other_command(run, "audit", quick="false"), "Whether a search is worth its cost, with a race at an equal budget:"
            ),
        )
    orders = {order["name"] for order in run.result.get("orders") or ()}
    if answer["answer"] == "undecided":
        use = (Text(f"Use the {answer['use']} directions."),) if answer["use"] in orders else ()
        return *use, _undecided(run)
    return (Text(f"Use the {answer['use']} directions; a search is not shown to be needed."),)


def _undecided(run: Run) -> Text | Command:
    """Return what lets an audit decide that could not."""
    result, minutes = run.result, run.get("minutes")
    steps = result.get("steps") or {}
    if result.get("few_sets"):
        return Text("More candidates, or another keep=, give it more to compare; an audit with quick=false takes any space.")
    brief = steps.get("trainings", 0) < steps.get("controls", 0)
    if brief and steps.get("most", steps["controls"]) < steps["controls"]:
        return Text("The recipe's own trainings are shorter than the controls: more epochs=, with overwrite=true.")
    if (brief or result.get("not_done")) and run.command and isinstance(minutes, int | float):
        why = "Longer trainings decide; with more minutes they are planned again:" if brief else "Some are not done:"
        needed = steps.get("minutes_needed", 0)
        return Command(changed_command(run.command, minutes=f"{needed if needed > minutes else 2 * minutes:g}"), why)
    if result.get("missing"):
        return Text("A lower optim.lr lets all trainings end.")
    if any(control and not control.get("finite", True) for control in result.get("controls", {}).values()):
        return Text("The controls have a recipe of their own: another planted= or seed=, with overwrite=true, may let them end.")
    return Text(
        "Longer trainings may decide: more workers= or a smaller model, with overwrite=true, or an audit with quick=false."
    )


def _orders(result: Mapping[str, Any]) -> Table | Text:
    """Return one row per order, the best first."""
    orders = result.get("orders")
    if not orders:
        return Text("No order was trained with all seeds.")
    low, high = min(o["loss"]["low"] for o in orders), max(o["loss"]["high"] for o in orders)
    rows: list[tuple[Cell, ...]] = [
        (
            o["name"],
            f"{o['kept']:.3g}",
            Span(o["loss"]["low"], o["loss"]["mean"], o["loss"]["high"], low, high),
            float(o["score"]),
        )
        for o in orders
    ]
    score = f"mean {result['score']}" if result.get("score") else "mean score"
    seeds = result.get("quick", {}).get("seeds", "?")
    return Table(f"Validation losses over {seeds} seeds with 95 % intervals.", ("order", "kept", "loss", score), tuple(rows))


def _controls(result: Mapping[str, Any]) -> Table | Text:
    """Return what the trainings see where the answer is known."""
    rows: list[tuple[Cell, ...]] = []
    for name, control in result.get("controls", {}).items():
        if control is not None:
            losses = control["loss"], control["shuffled_loss"]  # None where one is not finite
            told = "told apart" if control["told_apart"] else "not told apart"
            rows.append((name, control["planted"], *losses, "a training diverged" if None in losses else told))
    if not rows:
        return Text("The controls were not run.")
    columns = ("control", "direction", "its loss", "loss of a shuffle", "the trainings say")
    return Table("Tasks with a known answer: one direction does all the work, or none does.", columns, tuple(rows))
