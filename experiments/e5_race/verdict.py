"""Who won: paired differences, the two comparisons fixed beforehand with Holm's correction, all others without stars.

A pair has to be independent of the others. Live, each row is an instance of its own. On the tables the three rows of a seed share
its planted direction, so the part counts seeds, each with its mean over the spaces; within one space every row is a seed.
Shapes: scores of an arm (n,), one per pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.differences import span
from experiments.e5_race.arms import ARMS
from experiments.study import Record
from lmsearch.figures.canvas import new_figure
from lmsearch.files import write_figure
from lmsearch.scanbench.spaces import FIRST_SPACES
from lmsearch.stats.ranking import holm, signed_rank_sum, wilcoxon

OURS = {"live": "softmax", "fresh": "fair", "retrained": "fair", "table": "fair"}  # the default search when the part was planned
PRIMARY = ("random", "hand-made")
LEVEL = 0.05
PAIR = {
    "live": "one instance",
    "fresh": "one instance",
    "retrained": "one instance, mean over new trainings of what was shipped",
    "table": "one seed, mean over its three spaces",
}
SHIPPED = "retrained: as shipped"  # the same rows, by the test scores of the networks that the arms ended with
Scores = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Later:
    """A part of an arm that was added later."""

    arm: str
    old: str  # the part with whose rows it shares all draws
    rivals: tuple[str, ...]  # arms of that part, which it is to be compared with


LATER = {
    "both table": Later("fair, dominance", "table", ("softmax", "fair")),
    "both retrained": Later("fair, dominance", "retrained", ("softmax", "fair")),
    "halving table": Later("halving", "table", ("fair",)),
    "halving retrained": Later("halving", "retrained", ("fair",)),
}


def summarise(records: list[Record]) -> Record:
    """Return the comparison of every part, and of every space of the tables with Holm's correction over all of them."""
    rows = {part: [r for r in records if r["part"] == part] for part in OURS}
    table = rows["table"]
    pairs = {part: whole_seeds(mine) if part == "table" else [[r] for r in mine] for part, mine in rows.items()}
    scored = {"retrained": "retrained"}  # what counts in the others is the test score of the network shipped
    parts = {part: scores_of(found, scored.get(part, "test")) for part, found in pairs.items() if found}
    by_space = {space: [r for r in table if r["words"][0] == space] for space in FIRST_SPACES}
    spaces = {space: scores_of([[r] for r in mine], "test") for space, mine in by_space.items() if mine}
    summary: Record = {"rows": {part: len(mine) for part, mine in rows.items()}}
    for part, scores in parts.items():
        ours = OURS[part]
        summary[part] = {"pair": PAIR[part], "ours": ours} | compare(scores, ours) | decided({part: scores}, ours)[part]
    if pairs["retrained"]:
        summary[SHIPPED] = compare(scores_of(pairs["retrained"], "test"), OURS["retrained"])
    for part, later in LATER.items():
        joined = with_later([r for r in records if r["part"] == part], rows[later.old])
        grouped = whole_seeds(joined) if later.old == "table" else [[r] for r in joined]
        if grouped:
            scores = scores_of(grouped, scored.get(later.old, "test"))
            summary[part] = {"pair": PAIR[later.old], "ours": later.arm} | compare(scores, later.arm)
            summary[part]["p_holm"] = corrected_p(summary[part]["p_uncorrected"], later.rivals)
    ours = OURS["table"]
    for space, found in decided(spaces, ours).items():
        summary[f"table: {space}"] = {"pair": "one seed", "ours": ours} | compare(spaces[space], ours) | found
        summary[f"table: {space}"]["percentile"] = percentiles(by_space[space])
    return summary


def with_later(records: Sequence[Record], earlier: Sequence[Record]) -> list[Record]:
    """Return the earlier rows that have one of an arm that was added later, with what it found among the arms."""
    found = {tuple(r["words"]): r for r in records}
    kinds = ("test", "retrained", "regret")
    return [
        r | {kind: r[kind] | found[words][kind] for kind in kinds if kind in r}
        for r in earlier
        if (words := tuple(r["words"])) in found
    ]


def corrected_p(uncorrected: Mapping[str, float], rivals: Sequence[str]) -> dict[str, float]:
    """Return the p-values of the comparisons with these arms, with Holm's correction over them."""
    return {arm: round(p, 5) for arm, p in holm({arm: uncorrected[arm] for arm in rivals}).items()}


def whole_seeds(records: Sequence[Record]) -> list[list[Record]]:
    """Return the rows of every seed of which no space is missing."""
    seeds = dict.fromkeys(r["words"][1] for r in records)
    grouped = [[r for r in records if r["words"][1] == seed] for seed in seeds]
    return [rows for rows in grouped if len(rows) == len(FIRST_SPACES)]


def scores_of(pairs: Sequence[Sequence[Record]], kind: str) -> Scores:
    """Return every arm's score of this kind in every pair, the mean over rows and trainings; arms that all rows have."""
    arms = [arm for arm in ARMS if all(arm in r[kind] for rows in pairs for r in rows)]
    return {arm: np.array([np.mean([r[kind][arm] for r in rows]) for rows in pairs]) for arm in arms}


def compare(scores: Scores, name: str) -> Record:
    """Return the mean test score of every arm with its interval over pairs, and paired differences of arm `name`, no stars."""
    ours = {arm: scores[name] - scores[arm] for arm in scores if arm != name}
    return {
        "pairs": len(scores[name]),
        "test": {arm: span(values) for arm, values in scores.items()},
        "ours_minus": {arm: span(values) for arm, values in ours.items()},
        "ours_wins_ties_losses": {arm: outcomes(values) for arm, values in ours.items()},
        "p_uncorrected": {arm: round(wilcoxon(values), 5) for arm, values in ours.items()},
    }


def decided(groups: Mapping[str, Scores], name: str) -> dict[str, Record]:
    """Return p-values and verdicts of the primary comparisons, with Holm's correction over those of all groups together."""
    ours = {f"{group}: {arm}": s[name] - s[arm] for group, s in groups.items() for arm in PRIMARY}
    corrected = holm({pair: wilcoxon(values) for pair, values in ours.items()})
    return {
        group: {
            "primary_p_holm": {arm: round(corrected[f"{group}: {arm}"], 5) for arm in PRIMARY},
            "primary": {arm: verdict(ours[f"{group}: {arm}"], corrected[f"{group}: {arm}"]) for arm in PRIMARY},
        }
        for group in groups
    }


def percentiles(records: Sequence[Record]) -> Record:
    """Return the mean share of architectures of the space that are better than what an arm shipped."""
    arms = [arm for arm in ARMS if all(arm in r["percentile"] for r in records)]
    return {arm: round(float(np.mean([r["percentile"][arm] for r in records])), 4) for arm in arms}


def outcomes(differences: np.ndarray) -> list[int]:
    """Pairs won, tied and lost."""
    return [int((differences > 0).sum()), int((differences == 0).sum()), int((differences < 0).sum())]


def verdict(differences: np.ndarray, p: float) -> str:
    """A word for a primary comparison: the test is one of signed ranks, so their sum tells the direction, not the mean."""
    if p >= LEVEL:
        return "no difference shown"
    ranks = signed_rank_sum(differences)
    against = "" if ranks * differences.mean() > 0 else " by ranks, not in the mean"
    return ("better" if ranks > 0 else "worse") + against


def draw(summary: Record, path: Path) -> None:
    """Draw our paired difference to every other arm with its interval, one panel per part."""
    parts = [part for part in OURS if part in summary and summary[part]["pairs"] > 1]
    if not parts:
        return
    figure = new_figure(5 * len(parts), 3.6)
    panels = figure.subplots(1, len(parts), squeeze=False)
    for axes, part in zip(panels[0], parts, strict=True):
        rows = summary[part]["ours_minus"]
        for y, (mean, low, high) in enumerate(rows.values()):
            axes.errorbar(mean, y, xerr=[[mean - low], [high - mean]], fmt="o", color="black")
        axes.axvline(0, color="grey", linewidth=0.5)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_xlabel(f"test score of {summary[part]['ours']} minus this")
        axes.set_title(f"{part}: {summary[part]['pairs']} independent pairs", fontsize=10)
    write_figure(path, figure)
