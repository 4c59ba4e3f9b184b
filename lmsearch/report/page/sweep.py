"""The page of a sweep: which values did best, and what every trial gave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lmsearch.report.page.blocks import Cell, Command, Page, Panel, Panels, Section, Table, Text, present, section
from lmsearch.report.page.common import cost_section, duration, reproduce_section, unfinished, words_section
from lmsearch.report.page.draw import chart
from lmsearch.report.page.folder import Run
from lmsearch.report.page.words import SWEEP_WORDS

MOST_ROWS = 200
GOOD = "complete"


def sweep_page(run: Run) -> Page:
    """Return the page of a sweep."""
    trials: Sequence[Mapping[str, Any]] = run.result.get("trials", [])
    best, goal = run.result.get("best"), run.result.get("sweep", {}).get("goal", {})
    seconds = [t["seconds"] for t in trials if isinstance(t.get("seconds"), int | float)]
    spent = [("computing time of all trials", duration(sum(seconds)))] if seconds else []
    done = [t for t in trials if t["values"]]
    sections = [
        section("trials", "Every trial", *_table(trials, goal)),
        section("history", "How the best value moved", _history(trials, goal)),
        cost_section(run, None, *spent) if not spent else _cost(spent),
        words_section(SWEEP_WORDS),
        reproduce_section(run),
    ]
    verdict, meaning = _findings(run, trials, done, best)
    sweep = run.result.get("sweep", {})
    facts = {"task": sweep.get("task"), "sampler": sweep.get("sampler"), "trials": len(trials) or None, "seed": sweep.get("seed")}
    return Page(
        title=f"Sweep: {run.path.name}",
        kind="sweep",
        status=run.state if not run.result else "complete" if best else "no trial completed",
        tone="good" if best else "bad" if run.result else "open",
        verdict=verdict,
        meaning=meaning,
        advice=_advice(run, best),
        facts=tuple((name, str(value)) for name, value in facts.items() if value is not None),
        missing=run.missing,
        sections=present(sections),
    )


def _cost(rows: list[tuple[str, str]]) -> Section | None:
    """Return what the trials took."""
    return section("cost", "What it cost", Table("Measured on this machine.", ("what", "value"), tuple(rows)))


def _findings(
    run: Run, trials: Sequence[Mapping[str, Any]], done: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None
) -> tuple[str, tuple[str, ...]]:
    """Return verdict and meaning."""
    if not run.result:
        verdict, meaning = unfinished(run)
        return verdict, (meaning,)
    if best is None:
        ends = sorted(trials, key=lambda t: (t["state"] != "failed", t["state"] == "queued again"))
        note = (f"Trial {ends[0]['trial']} {ends[0]['state']}: {ends[0]['note']}.",) if ends else ()
        return f"No trial of {len(trials)} was completed.", ("There is nothing to choose from.", *note)
    values = ", ".join(f"{name} {value:.6g}" for name, value in best["values"].items())
    front = len(run.result.get("pareto", []))
    told = [f"{len(done)} of {len(trials)} trials gave a value."]
    told += [f"{front} of them are on the Pareto front: none of the others is better in both metrics."] if front > 1 else []
    told.append("The best of many trials looks better than it is: judge it on data that the sweep did not see.")
    return f"Trial {best['trial']} did best: {values}.", tuple(told)


def _advice(run: Run, best: Mapping[str, Any] | None) -> tuple[Text | Command, ...]:
    """Return what to do next."""
    if best:
        return (Command(best["command"], "Run the best trial again:"),)
    again = "Go on with it, or run the trials that are still to run:"
    return (Command(run.command, again),) if run.command and not run.writer else ()


def _table(trials: Sequence[Mapping[str, Any]], goal: Mapping[str, Any]) -> list[Table | Text]:
    """Return a row per trial, the best first."""
    metrics, params = goal.get("metrics", []), list(dict.fromkeys(name for t in trials for name in t["params"]))
    rows: list[tuple[Cell, ...]] = []
    for t in trials[:MOST_ROWS]:
        values = [t["values"].get(name) for name in metrics]
        chosen = [_cell(t["params"].get(name)) for name in params]
        rows.append((f"trial {t['trial']}", str(t["state"]), *values, *chosen, _seconds(t.get("seconds")), str(t["note"])))
    if not rows:
        return [Text("No trial was started.")]
    more = [Text(f"{len(trials) - MOST_ROWS} more trials stand in results.csv.")] if len(trials) > MOST_ROWS else []
    return [Table("The best first.", ("trial", "state", *metrics, *params, "time", "note"), tuple(rows)), *more]


def _cell(value: Any) -> Cell:
    """Return a parameter as a cell."""
    return float(value) if isinstance(value, float) else str(value)


def _seconds(value: Any) -> str:
    """Return the time of a trial."""
    return duration(float(value)) if isinstance(value, int | float) else "–"


def _number(value: Any) -> float:
    """Return a value of a trial as a number; not a number where there is none."""
    return float(value) if isinstance(value, int | float) else math.nan


def _history(trials: Sequence[Mapping[str, Any]], goal: Mapping[str, Any]) -> Panels | None:
    """Return charts of each metric over the trials in the order in which they ran, and of the best so far."""
    ordered = sorted((t for t in trials if t["values"]), key=lambda t: t["trial"])
    panels = []
    for name, direction in zip(goal.get("metrics", []), goal.get("directions", []), strict=False):
        values = [float(t["values"][name]) for t in ordered if math.isfinite(_number(t["values"].get(name)))]
        if len(values) < 2:
            continue
        better = max if direction == "maximize" else min
        best = [better(values[: n + 1]) for n in range(len(values))]
        low, high = min(values), max(values)
        alt = f"{name} of {len(values)} trials, from {low:.4g} to {high:.4g}; the best so far ends at {best[-1]:.4g}"
        drawn = chart({"trial": values, "best": best}, {"best": "k0"}, alt=alt, low=low, high=high)
        panels.append(Panel(drawn, alt, f"{name}: {low:.4g} to {high:.4g}"))
    key = (("other", "each trial"), ("k0", "the best so far"))
    caption = "Over the trials that gave a value, in the order in which they ran."
    return Panels(caption, (("", tuple(panels)),), key, wide=True) if panels else None
