"""Who won: paired differences, the two comparisons fixed beforehand with Holm's correction, all others without stars."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.e5_race.arms import ARMS
from experiments.study import Record
from lmsearch.report.ranking import bootstrap_mean, holm, wilcoxon

OURS, PRIMARY = "default", ("random", "hand-made")
LEVEL = 0.05


def summarise(records: list[Record]) -> Record:
    """Return the comparison of each part, and of every space of the tables without stars."""
    summary: Record = {"pairs": {part: sum(r["part"] == part for r in records) for part in ("live", "table")}}
    for part in ("live", "table"):
        if mine := [r for r in records if r["part"] == part]:
            summary[part] = compare(mine)
    for space in dict.fromkeys(r["words"][0] for r in records if r["part"] == "table"):
        summary[f"table: {space}"] = compare([r for r in records if r["part"] == "table" and r["words"][0] == space])
    return summary


def compare(records: list[Record]) -> Record:
    """Return mean test score of every arm with its interval, our differences, and the corrected p-values of the primary two."""
    scores = {arm: np.array([r["test"][arm] for r in records]) for arm in ARMS}
    raw = {arm: wilcoxon(scores[OURS] - scores[arm]) for arm in ARMS if arm != OURS}
    corrected = holm({arm: raw[arm] for arm in PRIMARY})
    return {
        "pairs": len(records),
        "test": {arm: interval(values) for arm, values in scores.items()},
        "ours_minus": {arm: interval(scores[OURS] - scores[arm]) for arm in raw},
        "ours_wins_ties_losses": {arm: outcomes(scores[OURS] - scores[arm]) for arm in raw},
        "primary_p_holm": {arm: round(p, 5) for arm, p in corrected.items()},
        "primary": {arm: verdict(scores[OURS] - scores[arm], corrected[arm]) for arm in PRIMARY},
        "p_uncorrected": {arm: round(p, 5) for arm, p in raw.items()},
        "percentile": {
            arm: round(float(np.mean([r["percentile"][arm] for r in records])), 4) for arm in ARMS if "percentile" in records[0]
        },
    }


def interval(values: np.ndarray) -> list[float]:
    """Mean with its 95 % bootstrap interval."""
    found = bootstrap_mean(values, seed=0)
    return [round(x, 5) for x in (found.mean, found.low, found.high)]


def outcomes(differences: np.ndarray) -> list[int]:
    """Pairs won, tied and lost."""
    return [int((differences > 0).sum()), int((differences == 0).sum()), int((differences < 0).sum())]


def verdict(differences: np.ndarray, p: float) -> str:
    """One word for a primary comparison."""
    if p >= LEVEL:
        return "no difference shown"
    return "better" if differences.mean() > 0 else "worse"


def draw(summary: Record, path: Path) -> None:
    """Draw our paired difference to every other arm with its interval, one panel per part."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    parts = [part for part in ("live", "table") if part in summary]
    if not parts:
        return
    figure, panels = plt.subplots(1, len(parts), figsize=(5 * len(parts), 3.6), layout="constrained", squeeze=False)
    for axes, part in zip(panels[0], parts, strict=True):
        rows = summary[part]["ours_minus"]
        for y, (mean, low, high) in enumerate(rows.values()):
            axes.errorbar(mean, y, xerr=[[mean - low], [high - mean]], fmt="o", color="black")
        axes.axvline(0, color="grey", linewidth=0.5)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_xlabel("test score of our default minus this")
        axes.set_title(f"{part}: {summary[part]['pairs']} pairs", fontsize=10)
    figure.savefig(path, dpi=120)
    plt.close(figure)
