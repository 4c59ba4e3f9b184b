"""What a quick audit found: the noise floor, the controls, whether a shuffle loses, and whether sets of directions differ.

Losses are validation losses: lower is better, and they tell more than a count of right answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from lmsearch.audit.quick import (
    BALANCED,
    CONTROL_SEEDS,
    HAND_MADE,
    LOSS,
    ORDERLESS,
    PLANTED,
    SHUFFLED,
    Order,
    QuickPlan,
    named,
)
from lmsearch.scan.directions import label
from lmsearch.stats import ranking
from lmsearch.stats.digits import apart, beside, blind_below, p_value, span
from lmsearch.stats.intervals import over_seeds

GAINED = 0.5  # of the shuffle's loss, at most, that a net reads with the planted direction
LEVEL = ranking.LEVEL
NOTHING = "none of these orders"  # to use, where too much is missing
FEWEST = 3  # sets and seeds below which nothing is concluded


def read_quick(
    rows: Mapping[str, Mapping[str, Any]],
    orders: Sequence[Order],
    plan: QuickPlan,
    *,
    first_seed: int,
    planted: str,
    control_steps: int,
    constant: float | None,
    compared: str = LOSS,
) -> dict[str, Any]:
    """Return all measurements of a quick audit as plain values, and its verdict; `orders` are those that were trained.

    Controls were trained for `control_steps`; `constant` is the loss of the best constant answer, None where it is not known,
    and `compared` the loss in a row that stands beside it.
    """
    seeds = range(first_seed, first_seed + plan.seeds)
    losses, scores = {}, {}
    for order in orders:
        found = [rows.get(named(order, seed)) for seed in seeds]
        if all(row is not None and math.isfinite(row["loss"]) for row in found):
            losses[order] = [float(row["loss"]) for row in found if row is not None]
            scores[order] = [float(row["score"]) for row in found if row is not None]
    measured: dict[str, Any] = {
        "floor": noise_floor(losses, scores),
        "controls": {begin: control(rows, begin, planted, first_seed) for begin in (PLANTED, ORDERLESS)},
        "orders": [
            {
                "name": order.name,
                "directions": [list(map(label, layer)) for layer in order.architecture],
                "kept": kept(order),
                "shuffled": order.shuffled,
                "alone": order.single,
                "loss": asdict(over_seeds(losses[order])),
                "score": float(np.mean(own)),
            }
            for order, own in sorted(scores.items(), key=lambda entry: float(np.mean(losses[entry[0]])))
        ],
        "missing": [order.name for order in orders if order not in losses],
        "not_done": [order.name for order in orders if any(named(order, seed) not in rows for seed in seeds)],
        "shuffled": shuffled(losses),
        "sets": differences([losses[order] for order in losses if not order.single and not order.shuffled]),
        "learned": learned([[rows[named(order, seed)].get(compared) for seed in seeds] for order in losses], constant)
        | {"classes_alike": compared == BALANCED},
        "steps": {"trainings": plan.steps, "controls": control_steps},
        "few_sets": sum(not order.single and not order.shuffled for order in orders) < FEWEST,
    }
    return measured | {"verdict": verdict(measured)}


def kept(order: Order) -> float:
    """Return the directions per layer."""
    return sum(map(len, order.architecture)) / len(order.architecture)


def noise_floor(losses: Mapping[Order, list[float]], scores: Mapping[Order, list[float]]) -> dict[str, float] | None:
    """Standard deviations over seeds of one order, the hand-made one."""
    order = next((order for order in losses if order.name == HAND_MADE), None)
    if order is None:
        return None
    return {"loss": float(np.std(losses[order], ddof=1)), "score": float(np.std(scores[order], ddof=1))}


def learned(losses: Sequence[Sequence[float | None]], constant: float | None) -> dict[str, Any]:
    """The lowest mean loss of an order beside that of a constant answer; `better` None where one of them is not known."""
    known = [[loss for loss in own if loss is not None] for own in losses]
    complete = bool(known) and known == [list(own) for own in losses]  # rows of before may lack a balanced loss
    best = min(float(np.mean(own)) for own in known) if complete else None
    better = None if best is None or constant is None else best < constant
    return {"loss": best, "constant_loss": constant, "better": better}


def control(rows: Mapping[str, Mapping[str, Any]], begin: str, planted: str, first_seed: int) -> dict[str, Any] | None:
    """Losses with the planted direction and a shuffle; `told_apart` where with every seed the first is clearly lower.

    Nothing is where a training diverged, so that not all losses are `finite`.
    """
    seeds = range(first_seed, first_seed + CONTROL_SEEDS)
    pairs = [[rows.get(f"{begin}: {name} s{seed}") for name in (planted, SHUFFLED)] for seed in seeds]
    if not all(row is not None for pair in pairs for row in pair):
        return None
    values = [[float(row["loss"]) for row in pair if row is not None] for pair in pairs]
    finite = all(math.isfinite(loss) for pair in values for loss in pair)
    told = finite and all(own <= GAINED * other for own, other in values)
    return {"planted": planted, "loss": float(np.mean([p[0] for p in values])),
            "shuffled_loss": float(np.mean([p[1] for p in values])), "told_apart": told, "finite": finite}  # fmt: skip


def differences(losses: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """Do orders that keep equally many directions differ by more than seeds do?"""
    table = -np.array(losses)
    if table.ndim != 2 or min(table.shape) < 2:
        return None
    p = ranking.architectures_differ(table, same_seeds=True)
    wide = ranking.range_in_deviations(table, same_seeds=True)
    return {
        "orders": len(table),
        "seeds": table.shape[1],
        "range": float(np.ptp(table.mean(1))),
        "range_in_deviations": wide,
        "p": p,
        "shows_from": ranking.smallest_seen(*table.shape, same_seeds=True),
        "differ": len(table) >= FEWEST and ranking.differ(wide, p),
    }


def shuffled(losses: Mapping[Order, list[float]]) -> dict[str, Any] | None:
    """How much more a shuffle loses than the orders of its size; `worse` where an analysis of variance of either says so.

    The two p-values are corrected by Holm's rule.
    """
    groups = {}
    for single in (True, False):
        own = {order: values for order, values in losses.items() if order.single is single}
        lost = [values for order, values in own.items() if order.shuffled]
        others = [values for order, values in own.items() if not order.shuffled]
        if not lost or not others:
            continue
        gap = np.subtract(lost[0], np.mean(others, axis=0))
        two = np.array([lost[0], np.mean(others, axis=0)])
        groups["one direction" if single else "sets"] = (gap, ranking.architectures_differ(-two, same_seeds=True))
    if not groups:
        return None
    corrected = ranking.holm({name: p for name, (_, p) in groups.items()})
    told = {name: asdict(over_seeds(gap)) | {"p": corrected[name]} for name, (gap, _) in groups.items()}
    return {"gaps": told, "worse": any(gap["mean"] > 0 and gap["p"] < LEVEL for gap in told.values())}


def verdict(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"answer": yes | no | undecided, "use": order, "sentences": [...]}: would a search have something to find?"""
    answer, use, why = decide(measured)
    words = {
        "yes": "A search may pay here",
        "no": "A search has little to find here, as far as this shows",
        "undecided": "Undecided",
    }
    sentences = [*floor_sentences(measured), *learned_sentences(measured["learned"])]
    sentences += [*control_sentences(measured["controls"]), *order_sentences(measured)]
    directions = next((order["directions"] for order in measured["orders"] if order["name"] == use), None)
    what = use if answer != "yes" or directions is None else f"{use} ({directions_text(directions)})"
    return {"answer": answer, "use": use, "sentences": [*sentences, f"{words[answer]}: {why}. Use: {what}."]}


def directions_text(directions: Sequence[Sequence[str]]) -> str:
    """Return the directions of all layers in words, once where every layer has the same."""
    layers = [", ".join(layer) for layer in directions]
    if len(set(layers)) == 1:
        return f"in every layer {layers[0]}"
    return "; ".join(f"layer {number}: {layer}" for number, layer in enumerate(layers))


def decide(measured: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return (answer, what to use, why)."""
    planted, orderless = (measured["controls"][name] for name in (PLANTED, ORDERLESS))
    sets, lost, use = measured["sets"], measured["shuffled"], by_hand_or_best(measured)
    if planted is None or orderless is None or lost is None or sets is None or sets["orders"] < FEWEST:
        return "undecided", use, too_little(measured)
    if spoilt := [name for name in (PLANTED, ORDERLESS) if not measured["controls"][name]["finite"]]:
        return "undecided", use, f"trainings of the {' and the '.join(spoilt)} did not end with a finite loss"
    if not planted["told_apart"]:
        return "undecided", use, "trainings this brief miss a direction that does all the work in a planted task"
    if orderless["told_apart"]:
        return "undecided", use, "these trainings see an order where none matters"
    if measured["learned"]["better"] is False:
        return "undecided", use, "no training did better than an answer that looks at nothing, so none of them learned"
    if (steps := measured["steps"])["trainings"] < steps["controls"]:
        short = f"trainings of {steps['trainings']} steps are shorter than the {steps['controls']} of the controls"
        return "undecided", use, f"{short}, which do not vouch for them"
    if sets["differ"]:
        return "yes", best_set(measured), "sets of equally many directions differ by more than seeds do"
    if measured["not_done"]:
        which = ", ".join(measured["not_done"])
        return "undecided", use, f"trainings of {which} were not done; with more minutes= the same command does them"
    if measured["missing"]:
        which = ", ".join(measured["missing"])
        return (
            "undecided",
            use,
            f"trainings of {which} did not end with a finite loss and cannot be compared; lower optim.lr",
        )
    size = f"an audit of {sets['orders']} sets with {sets['seeds']} seeds"
    blind = blind_below(size, sets["shows_from"])
    if lost["worse"]:
        why = "order matters, since a shuffle loses, but other sets are not shown to differ by more than seeds"
        return "no", HAND_MADE, f"{why}; {blind}"
    why = "neither a shuffle nor another set of directions is shown to differ from the rest by more than seeds do"
    return "no", HAND_MADE, f"{why}; {blind}"


def too_little(measured: Mapping[str, Any]) -> str:
    """Say why there is too little to conclude from: a space of few sets, or trainings that are missing."""
    if measured["few_sets"]:
        return f"there are fewer than {FEWEST} different sets of directions to compare, shuffles apart"
    rest = "; with more minutes= the same command does the rest" if measured["not_done"] else ""
    return f"too few trainings were completed{rest}"


def best_set(measured: Mapping[str, Any]) -> str:
    """Return the set of directions, shuffles apart, with the lowest loss."""
    return next((order["name"] for order in measured["orders"] if not order["alone"] and not order["shuffled"]), NOTHING)


def by_hand_or_best(measured: Mapping[str, Any]) -> str:
    """Return what to use where nothing was shown: the hand-made order, or the best one where its trainings diverged."""
    return best_set(measured) if HAND_MADE in measured["missing"] else HAND_MADE


def floor_sentences(measured: Mapping[str, Any]) -> list[str]:
    """What seeds alone do."""
    floor = measured["floor"]
    if floor is None:
        return ["The noise floor was not measured."]
    return [f"Noise floor: over seeds of the {HAND_MADE} order the loss deviates by {floor['loss']:.4f}, the score by"
            f" {floor['score']:.4f}."]  # fmt: skip


def learned_sentences(learned: Mapping[str, Any]) -> list[str]:
    """Whether the trainings learned anything."""
    if learned["better"] is None:
        return ["The loss of a constant answer is not known here, so nothing tells whether the trainings learned."]
    side = "below" if learned["better"] else "not below"
    best, constant = apart(learned["loss"], learned["constant_loss"])
    what = "the lowest loss with all classes alike" if learned["classes_alike"] else "the lowest loss"
    return [f"Learned: {what}, {best}, is {side} that of a constant answer, {constant}."]


def control_sentences(controls: Mapping[str, Any]) -> list[str]:
    """What the trainings see where the answer is known."""
    told = []
    for name, control in controls.items():
        if control is not None:
            seen = "not told apart" if control["finite"] else "not compared, since a training diverged"
            seen = "told apart" if control["told_apart"] else seen
            losses = f"{control['loss']:.3g} and {control['shuffled_loss']:.3g}"
            told.append(f"Control, {name}: {control['planted']} and a shuffle are {seen} (losses {losses}).")
    return told or ["The controls were not run."]


def order_sentences(measured: Mapping[str, Any]) -> list[str]:
    """How the orders did."""
    sets, lost = measured["sets"], measured["shuffled"]
    told = [f"These trainings are missing or diverged: {', '.join(measured['missing'])}."] if measured["missing"] else []
    for name, gap in (lost or {"gaps": {}})["gaps"].items():
        more = span(gap["mean"], gap["low"], gap["high"])
        told.append(f"Shuffled order, {name}: its loss is {more} above the others' ({p_value(gap['p'])}).")
    if sets is not None:
        ranged, tested = sets["range_in_deviations"], f"(analysis of variance {p_value(sets['p'])})"
        times = f"{beside(ranged, ranking.LEAST_RANGE)} times what seeds leave of it"
        if math.isinf(ranged):
            times = "and seeds leave nothing of it"
        over = f"{sets['orders']} sets that keep equally many directions range over {sets['range']:.4f} in loss"
        told.append(f"{over}, {times} {tested}.")
    return told
