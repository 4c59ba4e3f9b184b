"""What the rows of E6 show: the two primary comparisons, and all else without stars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.differences import draw_differences, paired, span
from experiments.e6_real.plan import ATTEMPTS, BEST, DEPTH, KEEP, LITERATURE, OURS, PLANS, SEARCHES, SPACE, SUPERNETS
from experiments.records import Record
from lmsearch.search.trust.consensus import agreement_p, stability
from lmsearch.stats import ranking

PICK = "picked by each seed"  # the literature arm with the best validation accuracy of that seed
BySeed = dict[int, float]


def summarise(records: list[Record]) -> Record:
    """Return what each plan shows so far."""
    by_plan = {plan: [r for r in records if r["plan"] == plan] for plan in PLANS}
    return {"pilot": pilot_of(by_plan["pilot"]), "main": main_of(by_plan["main"])}


def of_kind(records: Sequence[Record], kind: str) -> list[Record]:
    """Return the records of one kind."""
    return [r for r in records if r["kind"] == kind]


def means(records: Sequence[Record], name: str) -> dict[str, BySeed]:
    """Return, by arm and seed, a score, or the mean of several."""
    found: dict[str, BySeed] = {}
    for r in records:
        found.setdefault(r["arm"], {})[r["seed"]] = float(np.mean(r[name]))
    return found


def pilot_of(records: Sequence[Record]) -> Record:
    """Return validation accuracies beside the baselines, and whether architectures differ by more than noise."""
    short = {f"{r['arm']}, {r['epochs']} epochs": r["val"] for r in of_kind(records, "learn")}
    spread: dict[str, dict[int, float]] = {}
    for r in of_kind(records, "spread"):
        spread.setdefault(r["arm"], {})[r["run"]] = r["val"]
    runs = {run for own in spread.values() for run in own}
    whole = [[own[run] for run in sorted(runs)] for own in spread.values() if own.keys() == runs]
    return {"baselines": baselines_of(records), "val": short, "spread": differing(whole)}


def baselines_of(records: Sequence[Record]) -> Record:
    """Return the mean accuracies of the simple methods over the seeds."""
    own = of_kind(records, "baselines")
    return {
        part: {name: round(float(np.mean([r[part][name] for r in own])), 5) for name in own[0][part]} if own else {}
        for part in ("val", "test")
    }


def differing(scores: Sequence[Sequence[float]]) -> Record:
    """Return range and analysis of variance of scores (A, S); seeds move all architectures alike, and that is taken out."""
    array = np.array(scores)
    if array.ndim != 2 or min(array.shape) < 2:
        return {}
    spread, p = (tell(array, same_seeds=True) for tell in (ranking.range_in_deviations, ranking.architectures_differ))
    told = {"architectures": len(array), "seeds": array.shape[1], "range_in_deviations": round(spread, 3)}
    return told | {"architectures_differ_p": float(f"{p:.3g}"), "search_may_pay": ranking.differ(spread, p)}


def best_validated(records: Sequence[Record]) -> str | None:
    """Return the arm of the literature with the best mean validation accuracy over the seeds that validated all; None without."""
    values = means(records, "val")
    seeds = set.intersection(*(set(values.get(arm, {})) for arm in LITERATURE))
    if not seeds:
        return None
    return max(LITERATURE, key=lambda arm: float(np.mean([values[arm][seed] for seed in sorted(seeds)])))


def main_of(records: Sequence[Record]) -> Record:
    """Return the summary of the main plan: primary comparisons over the seeds that have what each needs."""
    retrained, once = means(of_kind(records, "retrain"), "test"), of_kind(records, "validate")
    ours, best, checked = retrained.get(OURS, {}), best_validated(once), means(once, "test")
    primary = {"random": retrained.get("random", {}), BEST: retrained.get(best or "", {})}
    minus = {name: paired(ours, theirs) for name, theirs in primary.items()}
    p = {name: ranking.wilcoxon(values) for name, values in minus.items() if len(values) > 1}
    others = {"evolution": retrained.get("evolution", {}), PICK: picked(once)} | {
        f"{a}, trained once": v for a, v in checked.items()
    }
    return {
        "baselines": baselines_of(records),
        "best_of_the_literature": best,
        "test": {arm: span(list(v.values())) for arm, v in (retrained | {PICK: picked(once)}).items()},
        "literature_val": {arm: span(list(v.values())) for arm, v in means(once, "val").items()},
        "literature_differs": differing(matrix(means(once, "val"), LITERATURE)),
        "primary": {name: compared(values) for name, values in minus.items()},
        "primary_p_holm": ranking.holm(p) if len(p) == len(minus) else {},
        "ours_minus": {name: span(paired(ours, theirs)) for name, theirs in others.items()},
        "changed_images": changed_of(of_kind(records, "retrain"), best),
        "transfer": transfer_of(of_kind(records, "transfer"), best),
        "agreement": agreement(chosen_by(OURS, records)),
        "attempts": attempts_of(records, primary),
        "cost": costs_of(records),
        "diverged": sum(bool(r.get("diverged")) for r in records),
    }


def compared(differences: Sequence[float]) -> Record:
    """Return how many seeds there are, the mean difference with its interval, and how many seeds are won."""
    return {"seeds": len(differences), "difference": span(differences), "won": sum(d > 0 for d in differences)}


def picked(once: Sequence[Record]) -> BySeed:
    """Return the test accuracy, of one training, of the arm that validates best with each seed."""
    val, test = means(once, "val"), means(once, "test")
    seeds = set.intersection(*(set(val.get(arm, {})) for arm in LITERATURE))
    return {seed: test[max(LITERATURE, key=lambda arm: val[arm][seed])][seed] for seed in sorted(seeds)}


def matrix(values: Mapping[str, BySeed], arms: Sequence[str]) -> list[list[float]]:
    """Return scores (A, S) of the seeds that all arms have."""
    seeds = sorted(set.intersection(*(set(values.get(arm, {})) for arm in arms)))
    return [[values[arm][seed] for seed in seeds] for arm in arms]


def changed_of(records: Sequence[Record], best: str | None) -> Record:
    """Return ours minus random and minus the best of the literature on turned and enlarged images, paired by seed."""
    by_arm: dict[str, dict[str, BySeed]] = {}
    for r in records:
        for name, value in r["changed"].items():
            by_arm.setdefault(r["arm"], {}).setdefault(name, {})[r["seed"]] = value
    ours = by_arm.get(OURS, {})
    rivals = {"random": by_arm.get("random", {}), BEST: by_arm.get(best or "", {})}
    return {
        name: {"ours": span(list(values.values()))}
        | {f"minus {a}": span(paired(values, v.get(name, {}))) for a, v in rivals.items()}
        for name, values in ours.items()
    }


def transfer_of(records: Sequence[Record], best: str | None) -> Record:
    """Return accuracies on ten times the images, and ours minus random and minus the best of the literature, paired by seed."""
    by_arm = means(records, "test")
    rivals = {"random": by_arm.get("random", {}), BEST: by_arm.get(best or "", {})}
    found = {arm: values for arm, values in ({OURS: by_arm.get(OURS, {})} | rivals).items() if values}
    minus = {f"minus {arm}": span(paired(found.get(OURS, {}), found[arm])) for arm in rivals if arm in found}
    return {arm: span(list(values.values())) for arm, values in found.items()} | minus


def agreement(choices: Sequence[Sequence[Sequence[str]]]) -> Record:
    """Return the overlap (Jaccard) of two seeds' directions per layer, chance, and the p-value of all layers together."""
    if len(choices) < 2:
        return {}
    layers = [stability([chosen[n] for chosen in choices], SPACE.candidates) for n in range(DEPTH)]
    found = [layer.jaccard for layer in layers]
    p = agreement_p([[KEEP] * len(choices)] * DEPTH, [len(SPACE.candidates)] * DEPTH, float(np.mean(found)))
    return {
        "jaccard": [round(v, 4) for v in found],
        "by_chance": round(layers[0].chance, 4),
        "p": p,
        "votes": [x.votes for x in layers],
    }


def chosen_by(arm: str, records: Sequence[Record]) -> list[list[list[str]]]:
    """Return what the searches of an arm chose, seed by seed."""
    return [r["chosen"] for r in of_kind(records, "search") if r["arm"] == arm and r["chosen"]]


def costs_of(records: Sequence[Record]) -> Record:
    """Return what a choice costs in the mean, in branch-scan steps."""
    found = {arm: [r["cost"] for r in of_kind(records, "search") if r["arm"] == arm] for arm in SUPERNETS}
    found[SEARCHES[0]] = [PLANS["main"].evaluations * r["cost"] for r in of_kind(records, "try")]
    return {arm: round(float(np.mean(values)), 1) for arm, values in found.items() if values}


def attempts_of(records: Sequence[Record], primary: Mapping[str, BySeed]) -> Record:
    """Return every attempt minus each rival of the primary comparisons, and minus ours; Holm over all but the last."""
    retrained = means(of_kind(records, "retrain"), "test")
    rivals = dict(primary) | {OURS: retrained.get(OURS, {})}
    minus = {arm: {name: paired(retrained.get(arm, {}), v) for name, v in rivals.items()} for arm in ATTEMPTS}
    tested = [(arm, name) for arm in ATTEMPTS for name in primary]
    p = {f"{arm} minus {name}": ranking.wilcoxon(minus[arm][name]) for arm, name in tested if len(minus[arm][name]) > 1}
    told: Record = {
        arm: {f"minus {name}": compared(values) for name, values in own.items()}
        | {"agreement": agreement(chosen_by(arm, records))}
        for arm, own in minus.items()
    }
    return told | {"p_holm": ranking.holm(p) if len(p) == len(tested) else {}}


def draw(summary: Record, path: Path) -> None:
    """Draw the differences of the main plan."""
    main = summary["main"]
    attempts = {arm: main["attempts"][arm] for arm in ATTEMPTS}
    groups = {
        "primary, minus": {name: found["difference"] for name, found in main["primary"].items()},
        "minus": main["ours_minus"],
        **{
            f"{arm}, minus": {n: found[f"minus {n}"]["difference"] for n in ("random", BEST, OURS)}
            for arm, found in attempts.items()
        },
        **{name: {k: v for k, v in found.items() if k.startswith("minus")} for name, found in main["changed_images"].items()},
        "ten times the images": {k: v for k, v in main["transfer"].items() if k.startswith("minus")},
    }
    draw_differences(
        groups, path, label="test accuracy of fair minus that of others, 95 % interval over seeds", title="E6: real images"
    )
