"""From the parts of an audit to its verdict: numbers first, then one sentence for each, then the answer.

Scores: accuracy, or minus the mean squared error; higher is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from lmsearch.audit.ledger import Row
from lmsearch.audit.rows import ARM
from lmsearch.stats import ranking
from lmsearch.stats.digits import beside, blind_below, correlation, p_value, span
from lmsearch.stats.intervals import Interval, over_seeds
from lmsearch.status import PASSED, Status

SEARCHED, RANDOM, HAND_MADE = "search", "random search", "hand-made directions"
Key = tuple[tuple[str, ...], ...]  # an architecture
UNBOUNDED = (-math.inf, math.inf)
FEWEST = 3  # architectures with two seeds, and rounds, below which nothing is concluded
NO_TEST_SET = (
    "there is no test set: test scores here are validation scores, by which the random arm picked the best of its networks,"
    " so that arm looks better than it is"
)


def read(
    rows: Sequence[Row],
    *,
    epochs: int,
    full_epochs: int,
    per_round: int,
    size: int,
    tested_on: str = "test",
    bounds: tuple[float, float] = UNBOUNDED,
    also: Sequence[str] = (),
    not_done: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return all measurements of an audit as plain values; what is missing is None.

    `epochs` of the recipe's `full_epochs` were trained; a round of random search has `per_round` architectures of the `size`
    that the space has; `also` names the literature's arms; `tested_on` is "validation" where the data has no test set. No
    interval leaves the `bounds` of a score. `not_done` are the parts that the plan has and the rows lack, None: not known.
    """
    by_key = {row["key"]: row for row in rows}
    measured = {
        "architectures": size,
        "few_architectures": size < FEWEST,
        "not_done": None if not_done is None else list(not_done),
        "diverged": sum(not finite_scores(row) for row in rows),
        "hand_made_diverged": sum(str(row["key"]).startswith("hand-made") and not finite_scores(row) for row in rows),
        "controls": controls(by_key),
        "spread": spread(rows),
        "agreement": agreement(rows),
        "race": race(rows, per_round=per_round, bounds=bounds, also=also),
    }
    found = verdict(measured)
    if epochs < full_epochs:
        cut = f"Trainings were cut to {epochs} of {full_epochs} epochs to fit into the time: the verdict is about those."
        found["sentences"].insert(0, cut)
    if tested_on != "test":
        found["sentences"].insert(0, NO_TEST_SET[0].upper() + NO_TEST_SET[1:] + ".")
    return measured | {"verdict": found}


def finite_scores(row: Row) -> bool:
    """Tell whether this part is no training, or one that did not diverge."""
    return all(math.isfinite(row[name]) for name in ("val", "test") if name in row)


def controls(rows: Mapping[str, Row]) -> dict[str, Any] | None:
    """Did the search find a planted direction, and nothing on shuffled targets?"""
    planted, mixed = rows.get("control planted"), rows.get("control shuffled")
    if planted is None or mixed is None:
        return None
    return {
        "planted": planted["planted"],
        "planted_derived": planted["derived"],
        "planted_found": planted["found"],
        "shuffled_status": mixed["status"],
        "shuffled_passed": mixed["status"] not in PASSED,
        "diverged": [name for name, row in (("planted", planted), ("shuffled", mixed)) if row["status"] == Status.DIVERGED],
    }


def trainings(rows: Sequence[Row], *, prefixes: Sequence[str]) -> dict[Key, list[Row]]:
    """Return the trainings of random architectures that did not diverge, by architecture."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        if str(row["key"]).startswith(tuple(prefixes)) and finite_scores(row):
            found.setdefault(tuple(map(tuple, row["architecture"])), []).append(row)
    return found


def spread(rows: Sequence[Row]) -> dict[str, Any] | None:
    """How far do random architectures differ, against how far seeds do?"""
    pairs = [r for r in trainings(rows, prefixes=("random", "second seed")).values() if len(r) >= 2]
    if len(pairs) < FEWEST:
        return None
    scores = np.array([[row["val"] for row in two[:2]] for two in pairs])
    return {
        "architectures": len(pairs),
        "seed_deviation": ranking.seed_deviation(scores),
        "range": float(np.ptp(scores.mean(1))),
        "range_in_deviations": ranking.range_in_deviations(scores),
        "analysis_of_variance_p": ranking.architectures_differ(scores, same_seeds=False),  # first seeds are those of rounds
        "noise_ceiling": ranking.noise_ceiling(scores),
        "shows_from": ranking.smallest_seen(*scores.shape, same_seeds=False),
    }


def agreement(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Does what the supernets say about architectures agree with training them from scratch?"""
    means = {a: float(np.mean([r["val"] for r in found])) for a, found in trainings(rows, prefixes=("random", "second")).items()}
    said: dict[Key, list[Row]] = {}
    for row in rows:
        for one in row.get("scores", ()):
            said.setdefault(tuple(map(tuple, one["architecture"])), []).append(one)
    known = [a for a in means if a in said]
    if len(known) < FEWEST:
        return None
    truth = [means[a] for a in known]
    taus = {}
    for name in ("alpha", "masked"):
        if not all(name in one for a in known for one in said[a]):
            continue
        values = [float(np.mean([one[name] for one in said[a]])) for a in known]
        taus[name] = finite(ranking.kendall_interval(values, truth, seed=0))
    return {"architectures": len(known), "tau": taus}


def race(
    rows: Sequence[Row], *, per_round: int, bounds: tuple[float, float] = UNBOUNDED, also: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Mean test scores at an equal budget, and paired differences to the search, over the complete rounds.

    Rounds in which an arm ends with a network that diverged cannot be averaged and are left out; `diverged` counts them. The
    budget is that of searching, deriving and training: the recheck, which only tests what a search found, is not in it.
    """
    arms: dict[str, list[float]] = {SEARCHED: [], RANDOM: [], HAND_MADE: [], **{name: [] for name in also}}
    by_key = {row["key"]: row for row in rows}
    number = diverged = 0
    keys = ("searched", "hand-made", *(f"{ARM}{name}" for name in also))
    while all(f"{key} round {number}" in by_key for key in keys):
        tried = [row for row in rows if str(row["key"]).startswith(f"random round {number}:")]
        if len(tried) < per_round:
            break
        first, *others = (by_key[f"{key} round {number}"] for key in keys)
        ended = (first, max(tried, key=lambda row: row["val"]), *others)
        number += 1
        if not all(map(finite_scores, ended)):
            diverged += 1
            continue
        for scores, row in zip(arms.values(), ended, strict=True):
            scores.append(row["test"])
    if number - diverged < FEWEST:
        return None
    width = bounds[1] - bounds[0]
    minus = {a: np.subtract(arms[SEARCHED], arms[a]) for a in arms if a != SEARCHED}
    return {
        "rounds": number - diverged,
        "diverged": diverged,
        "test": {name: asdict(over_seeds(values).within(*bounds)) for name, values in arms.items()},
        "search_minus": {name: asdict(over_seeds(values).within(-width, width)) for name, values in minus.items()},
        "p_holm": ranking.holm({name: paired_p(arms[SEARCHED], arms[name]) for name in minus}),
    }


def paired_p(first: Sequence[float], second: Sequence[float]) -> float:
    """p-value of Student's paired t-test of two arms, as an analysis of variance of two with the rounds as blocks."""
    return ranking.architectures_differ(np.array([first, second]), same_seeds=True)


def finite(interval: Interval) -> dict[str, float | None]:
    """Return an interval as JSON values: None for what is not a number."""
    return {k: None if math.isnan(v) else v for k, v in asdict(interval).items()}


def verdict(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"answer": yes | no | undecided, "use": arm, "sentences": [...]}."""
    sentences = [*control_sentences(measured["controls"]), *spread_sentences(measured["spread"])]
    sentences += agreement_sentences(measured["agreement"], measured["spread"])
    sentences += race_sentences(measured["race"])
    if measured["diverged"]:
        sentences.append(f"{measured['diverged']} trainings diverged and are left out of all of this.")
    answer, use, why = decide(measured)
    words = {"yes": "Search is warranted here", "no": "Search is not warranted here", "undecided": "Undecided"}
    sentences.append(f"{words[answer]}: {why}. Use: {use}.")
    return {"answer": answer, "use": use, "sentences": sentences}


def decide(measured: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return (answer, what to use, why). Directions by hand whose network diverged are not what to use."""
    tested, wide, raced = measured["controls"], measured["spread"], measured["race"]
    by_hand = RANDOM if measured["hand_made_diverged"] else HAND_MADE
    if tested is not None and tested["diverged"]:
        which = " and ".join(tested["diverged"])
        return "undecided", by_hand, f"the search diverged in a control ({which}), which then tells nothing"
    if tested is not None and not tested["planted_found"]:
        return "no", by_hand, "the search missed a direction that was planted on this grid, so its finds cannot be trusted"
    if tested is not None and not tested["shuffled_passed"]:
        return "no", by_hand, "the search claims to have found something on shuffled targets, so its finds cannot be trusted"
    if measured["few_architectures"]:
        few = measured["architectures"]
        return "undecided", by_hand, f"the search space has {few} architectures; {FEWEST} are needed to tell them from seeds"
    if tested is None or wide is None or raced is None:
        lost = f", and {measured['diverged']} trainings diverged (a lower optim.lr may help)" if measured["diverged"] else ""
        rest = "" if measured["not_done"] == [] else "; parts that are missing are done by more minutes="
        return "undecided", by_hand, f"too few trainings were completed{lost}{rest}"
    shown = ranking.differ(wide["range_in_deviations"], wide["analysis_of_variance_p"])
    if not shown and not measured["hand_made_diverged"]:
        return "no", by_hand, not_shown(wide)
    if raced["diverged"]:
        lost = f"{raced['diverged']} of {raced['rounds'] + raced['diverged']} rounds ended with a network that diverged"
        return "undecided", by_hand, f"{'directions matter, but ' if shown else ''}{lost}; lower optim.lr"
    if not shown:
        return "no", by_hand, not_shown(wide)
    answer, use, why = of_the_race(raced)
    if use == HAND_MADE and measured["hand_made_diverged"]:
        lost = f"the {HAND_MADE}, which have the best mean, diverged in a round that is not complete"
        return "undecided", by_hand, f"directions matter, but {lost}; lower optim.lr"
    return answer, use, why


def not_shown(wide: Mapping[str, Any]) -> str:
    """Say that architectures are not shown to differ, and what an audit of this size cannot show."""
    size = f"an audit of {wide['architectures']} that are trained twice"
    return f"architectures are not shown to differ by more than seeds; {blind_below(size, wide['shows_from'])}"


def of_the_race(raced: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return (answer, what to use, why) where directions matter and every arm of the race can be compared."""
    minus = {name: Interval(**values) for name, values in raced["search_minus"].items()}
    if all(interval.above_zero for interval in minus.values()):
        beaten = f"{', '.join([RANDOM, *(n for n in minus if n not in (RANDOM, HAND_MADE))])} and the {HAND_MADE}"
        return "yes", SEARCHED, f"at an equal budget the search beats {beaten}"
    best = max(raced["test"], key=lambda name: raced["test"][name]["mean"])
    if best != SEARCHED and raced["p_holm"][best] < ranking.LEVEL:
        told = f"({p_value(raced['p_holm'][best])}, by Holm's rule over {len(minus)} arms)"
        return "no", best, f"directions matter, but at an equal budget {best} does better than the search {told}"
    others = "both alternatives" if set(minus) == {RANDOM, HAND_MADE} else "all alternatives"
    lead = f"directions matter, but {raced['rounds']} rounds do not show the search ahead of {others}"
    return "undecided", best, f"{lead}; {best} has the best mean"


def control_sentences(tested: Mapping[str, Any] | None) -> list[str]:
    """What the controls showed."""
    if tested is None:
        return ["The controls were not run."]
    planted = "found" if tested["planted_found"] else "missed"
    mixed = "found nothing, as it should" if tested["shuffled_passed"] else "claimed to have found something"
    planted = "diverged on" if "planted" in tested["diverged"] else planted
    mixed = "diverged" if "shuffled" in tested["diverged"] else mixed
    return [f"Controls: the search {planted} the planted direction {tested['planted']}; on shuffled targets it {mixed}."]


def spread_sentences(wide: Mapping[str, Any] | None) -> list[str]:
    """How much is at stake."""
    if wide is None:
        return ["Too few random architectures were trained twice to tell directions from seeds."]
    ranged, told = wide["range_in_deviations"], f"analysis of variance {p_value(wide['analysis_of_variance_p'])}"
    times = f"{beside(ranged, ranking.LEAST_RANGE)} times the deviation between seeds ({wide['seed_deviation']:.4f}; {told})"
    if math.isinf(ranged):
        times = f"and seeds do not move them at all ({told})"
    over = f"{wide['architectures']} random architectures range over {wide['range']:.4f} in validation score"
    return [f"At stake: {over}, {times}."]


def agreement_sentences(agreed: Mapping[str, Any] | None, wide: Mapping[str, Any] | None) -> list[str]:
    """What the supernet's scores are worth."""
    if agreed is None:
        return []
    parts = []
    for name, tau in agreed["tau"].items():
        what = "alphas" if name == "alpha" else "masked supernet"
        parts.append(f"{what} {correlation(**tau, number=agreed['architectures'])}")
    ceiling = "" if wide is None else f"; noise ceiling {wide['noise_ceiling']:.2f}"
    return [
        f"Rank agreement (Kendall's tau) with training from scratch over {agreed['architectures']} architectures: "
        f"{', '.join(parts)}{ceiling}; 0 by chance."
    ]


def race_sentences(raced: Mapping[str, Any] | None) -> list[str]:
    """How the arms did."""
    if raced is None:
        return ["Too few rounds of the race were complete to compare anything."]
    means = ", ".join(f"{name} {values['mean']:.4f}" for name, values in raced["test"].items())
    gaps = "; ".join(f"search minus {name} {span(**values)}" for name, values in raced["search_minus"].items())
    over = "95 % intervals over the rounds, all on the same samples"
    return [f"Race at an equal budget, {raced['rounds']} rounds, test scores: {means}. {over}: {gaps}."]
