"""From rows to tables, and from tables to what a supernet's scores are worth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from experiments.e3_scanbench.tasks import SCORED, TASKS, BenchTask
from experiments.study import Record
from lmsearch.figures.canvas import new_figure
from lmsearch.files import write_figure
from lmsearch.scanbench.spaces import FIRST_SPACES, from_text
from lmsearch.scanbench.table import FOLDER, STEP, Table, table_names, write_table
from lmsearch.stats import ranking
from lmsearch.stats.rounding import tied

SCORES = {  # by the kind of supernet: softmax alphas, single-path training, or search=fair
    "scores": ("alpha", "masked", "perturbation"),
    "fair": ("masked_fair", "perturbation_fair"),
    "strict": ("masked_strict",),
}
CHECK = "sum_h_flip"  # a task with one seed, no table of its own
REQUIRED = 0.5  # share of the ceiling that tau must reach on planted tasks
FLIPS = {d: d.removesuffix("_flip") if d.endswith("_flip") else f"{d}_flip" for d in ("h", "v", "w2", "w4")}
FLIPS |= {flipped: d for d, flipped in FLIPS.items()}


def table_of(task: BenchTask, records: list[Record]) -> Table | None:
    """Return the table of a task from its rows, or None where rows are missing."""
    found = {(r["words"][1], int(r["words"][2].removeprefix("seed"))): r for r in records if r["part"] == task.name}
    names = [n for n, seed in found if seed == 0]
    seeds = range(task.num_seeds)
    whole = len(names) == sum(len(s.architectures()) for s in FIRST_SPACES.values())
    if not whole or any((n, s) not in found for n in names for s in seeds):
        return None
    val, test = (np.array([[found[n, s][column] for s in seeds] for n in names]) for column in ("val", "test"))
    metric = "accuracy" if task.name == "digits" else "minus mean squared error"
    setting = {k: v for k, v in asdict(task).items() if k != "name"}
    return Table(task.name, metric, task.digest(), setting, tuple(map(from_text, names)), val, test)


def summarise(records: list[Record]) -> Record:
    """Write the tables that are complete into the package and return what they and the supernets' scores show.

    A table that is there stays: a version of ScanBench names it by its content, which tells the recipe as it was then.
    """
    tables = {name: table_of(task, records) for name, task in TASKS.items() if name != CHECK}
    summary: Record = {"rows": {name: sum(r["part"] == name for r in records) for name in TASKS}}
    complete = {name: table for name, table in tables.items() if table is not None}
    FOLDER.mkdir(exist_ok=True)
    for name in complete.keys() - set(table_names()):
        write_table(complete[name], FOLDER / f"{name}.json")
    summary["tables"] = {f"{t}: {s}": describe(complete[t].space(s)) for t in complete for s in FIRST_SPACES}
    summary["agreement"] = [
        row for t in SCORED if t in complete for s in FIRST_SPACES for row in agreement(complete[t].space(s), s, records)
    ]
    summary["symmetry"] = symmetry(records)
    return summary


def describe(table: Table) -> Record:
    """Return how far architectures differ and how well seeds agree about them."""
    return {
        "architectures": len(table.architectures),
        "seeds": table.num_seeds,
        "best": round(float(table.val.mean(1).max()), 5),
        "worst": round(float(table.val.mean(1).min()), 5),
        "seed_deviation": round(ranking.seed_deviation(table.val), 5),
        "range_in_deviations": round(table.range_in_deviations(), 2),
        "analysis_of_variance_p": table.analysis_of_variance_p(),
        "noise_ceiling": round(table.noise_ceiling(), 4),
        "verdict": "search may be warranted" if table.warranted else "search not warranted here",
    }


def agreement(table: Table, space: str, records: list[Record]) -> list[Record]:
    """Return what every score that has rows is worth in one space of a task."""
    word = space.replace(" ", "").replace(",", "-")
    found = []
    for kind, scores in SCORES.items():
        mine = [r for r in records if r["part"] == f"{kind}_{table.task}" and r["words"][0] == word]
        found += [compared(table, space, score, np.array([r[score] for r in mine])) for score in scores if mine]
    return found


def compared(table: Table, space: str, score: str, values: np.ndarray) -> Record:
    """Return Kendall's tau of scores (supernets, architectures) with the mean validation scores.

    `tau` is the mean over supernets; `tau_of_mean_score` has an interval over architectures. Where seeds do not agree at all
    (a ceiling of 0), nothing is said about half of it.
    """
    truth, ceiling = tied(table.val.mean(1), STEP), table.noise_ceiling()
    top = ranking.top_quartile(truth)
    taus = [ranking.kendall(v, truth) for v in values]
    whole = ranking.kendall_interval(values.mean(0), truth, seed=0)
    best = [ranking.kendall(v[top], truth[top]) for v in values]
    return {
        "task": table.task, "space": space, "score": score, "supernets": len(values),
        "tau_per_supernet": [round(t, 4) for t in taus], "tau": round(float(np.nanmean(taus)), 4),
        "tau_of_mean_score": [round(x, 4) for x in (whole.mean, whole.low, whole.high)],
        "tau_top_quartile": round(float(np.nanmean(best)), 4), "noise_ceiling": round(ceiling, 4),
        "chance_standard_error": round(chance(len(truth)), 4),
        "reaches_half_of_ceiling": bool(np.nanmean(taus) >= REQUIRED * ceiling) if ceiling > 0 else None,
    }  # fmt: skip


def chance(count: int) -> float:
    """Standard error of Kendall's tau of two unrelated orders of `count` architectures."""
    return float(np.sqrt(2 * (2 * count + 5) / (9 * count * (count - 1))))


def symmetry(records: list[Record]) -> Record | None:
    """Compare the task along h_flip with the task along h, every direction of its architectures reversed.

    Reversing the grid maps the eight directions onto themselves, so the two should differ by no more than seeds do.
    """
    flipped = {r["words"][1]: r["val"] for r in records if r["part"] == CHECK}
    plain: dict[str, list[float]] = {}
    for r in records:
        if r["part"] == "sum_h":
            plain.setdefault(r["words"][1], []).append(r["val"])
    pairs = {n: plain[mirrored(n)] for n in flipped if len(plain.get(mirrored(n), ())) > 1}
    if len(pairs) < 10:
        return None
    scores = [flipped[n] for n in pairs]
    deviations = [(flipped[n] - np.mean(v)) / max(np.std(v, ddof=1), 1e-9) for n, v in pairs.items()]
    means = [float(np.mean(v)) for v in pairs.values()]
    return {
        "architectures": len(pairs),
        "tau": round(ranking.kendall(scores, means), 4),
        "median_absolute_deviation_in_seed_deviations": round(float(np.median(np.abs(deviations))), 3),
        "mean_difference": round(float(np.mean(np.subtract(scores, means))), 5),
    }


def mirrored(text: str) -> str:
    """Return an architecture, as text, with every direction reversed."""
    order = list(FLIPS)
    candidates = [d for pair in zip(order[:4], (FLIPS[d] for d in order[:4]), strict=True) for d in pair]
    layers = [sorted((FLIPS[d] for d in layer.split("+")), key=candidates.index) for layer in text.split("/")]
    return "/".join("+".join(layer) for layer in layers)


def draw(summary: Record, path: Path) -> None:
    """Draw tau of every score as a bar, a dot per supernet, beside the noise ceiling and half of it."""
    rows = summary["agreement"]
    if not rows:
        return
    groups = list(dict.fromkeys((r["task"], r["space"]) for r in rows))
    names = [score for scores in SCORES.values() for score in scores]
    figure = new_figure(3 + 1.6 * len(groups), 4)
    axes = figure.subplots()
    for n, score in enumerate(names):
        mine = [r for r in rows if r["score"] == score]
        places = [groups.index((r["task"], r["space"])) + 0.16 * (n - 2) for r in mine]
        axes.bar(places, [r["tau"] for r in mine], width=0.15, label=score)
        dots = [(x, tau) for x, r in zip(places, mine, strict=True) for tau in r["tau_per_supernet"]]
        axes.plot([x for x, _ in dots], [tau for _, tau in dots], ".", color="black", markersize=2)
    for x, group in enumerate(groups):
        ceiling = next(r["noise_ceiling"] for r in rows if (r["task"], r["space"]) == group)
        axes.hlines(ceiling, x - 0.42, x + 0.42, colors="black", label="noise ceiling" if x == 0 else None)
        half = "half of it" if x == 0 else None
        axes.hlines(REQUIRED * ceiling, x - 0.42, x + 0.42, colors="black", linestyles="dotted", label=half)
    axes.axhline(0, color="grey", linewidth=0.5)
    axes.set_xticks(range(len(groups)), [f"{t}\n{s}" for t, s in groups], fontsize=8)
    axes.set_ylabel("Kendall's tau with training from scratch")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    write_figure(path, figure)
