"""E4: do alphas follow what weights learn by heart, and does a second level help?

python -m experiments.e4_memorisation.run [--only TEXT] [--shard 0/2] [--limit-minutes 30] [--summary]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.runs import LIGHT, UNCHECKED, epochs_for, quiet, search, train_alone
from experiments.study import EIGHT, Record, Row, Study, main
from lmsearch.figures.canvas import new_figure
from lmsearch.files import write_figure
from lmsearch.stats.intervals import Interval, over_seeds, wilson

HERE = Path(__file__).resolve().parent
STEPS = 300
SIZES = (256, 1024, 4096)
ABLATED_SIZE = 1024
SEEDS = range(5)
LEVELS = {
    "single": 0.2,
    "bilevel": 0.5,
    "mixed": 0.5,
    "fair": 0.2,
    "halving": 0.5,
}  # search.architect: share of the training set held out
BASE = "search=darts"  # preset of the levels that learn alphas
MASKED = {"fair": ("search=fair",), "halving": ("search=fair", "search.derivation=halving")}  # those that learn none
LEARNED = tuple(level for level in LEVELS if level not in MASKED)  # levels with alphas
ABLATIONS = {
    "alpha decay 0.04": ("search.alpha_weight_decay=0.04",),
    "no branch norm": ("model.branch_norm=false",),
}
STRENGTH, CODE_CHANS = 3.0, 128


def pair(seed: int) -> tuple[str, str]:
    """Return the direction of the rule and that of the private part: two different ones, drawn by the seed."""
    rule, private = np.random.default_rng([4, seed]).choice(len(EIGHT), size=2, replace=False)
    return EIGHT[rule], EIGHT[private]


def rows() -> list[Row]:
    """Every search, then the networks trained alone that regret is measured with, then the ablations."""
    found = [searched("search", n, level, seed) for n in SIZES for level in LEVELS for seed in SEEDS]
    found += [alone(n, direction, seed) for n in SIZES for seed in SEEDS for direction in EIGHT]
    for name, words in ABLATIONS.items():
        found += [searched(name, ABLATED_SIZE, level, seed, *words) for level in LEARNED for seed in SEEDS]
    return found


def data_words(n: int, seed: int) -> tuple[str, ...]:
    """The task of one seed: its directions and its samples."""
    rule, private = pair(seed)
    return (
        "data=planted",
        f"data.num_train={n}",
        f"data.set_seed={seed}",
        f"data.direction={rule}",
        f"data.memorise={private}",
        f"data.memorise_strength={STRENGTH}",
        f"data.code_chans={CODE_CHANS}",
        f"seed={seed}",
    )


def facts(n: int, seed: int) -> Record:
    """What the summary groups by."""
    rule, private = pair(seed)
    return {"n": n, "seed": seed, "rule": rule, "private": private}


def searched(part: str, n: int, level: str, seed: int, *more: str) -> Row:
    """A search of STEPS steps."""
    holdout = LEVELS[level]
    epochs = epochs_for(STEPS, samples=round(n * (1 - holdout)))
    how = MASKED.get(level, (f"search.architect={level}",))
    words = (*how, f"search.holdout={holdout}", f"epochs={epochs}", LIGHT, *data_words(n, seed), *more)
    return Row(part, words, facts(n, seed) | {"level": level})


def alone(n: int, direction: str, seed: int) -> Row:
    """One direction trained from scratch on the whole training set."""
    words = (*data_words(n, seed), f"epochs={epochs_for(STEPS, samples=n)}", f"directions={direction}")
    return Row("alone", words, facts(n, seed) | {"direction": direction})


def work(row: Row) -> Record:
    """Search, or train one direction alone."""
    if row.part == "alone":
        return {"test_mse": train_alone(row.words[:-1], [[row.facts["direction"]]])}
    words = (BASE, *row.words)
    return search(words if row.part == "search" else (*words, UNCHECKED))


def summarise(records: list[Record]) -> Record:
    """P(private direction picked) and mean regret per level and size, with 95 % intervals, and the level that follows."""
    alone_mse = {(r["n"], r["seed"], r["direction"]): r["test_mse"] for r in records if r["part"] == "alone"}
    tables: Record = {}
    for part in ("search", *ABLATIONS):
        for n in SIZES if part == "search" else (ABLATED_SIZE,):
            for level in LEVELS:
                mine = [r for r in records if r["part"] == part and r["n"] == n and r["level"] == level]
                if mine:
                    tables[f"{part}, n={n}, {level}"] = cell(mine, alone_mse)
    for name, v in tables.items():
        told = f", called ok on the rule {v['rule_called_ok']}, on others {v['other_called_ok']}" if "rule_called_ok" in v else ""
        picked = f"private {v['private']}, rule {v['rule']} of {v['runs']}"
        print(f"{name}: {picked}, regret {v['regret']}{told}")
    overall = {level: regret_of([r for r in searches(records) if r["level"] == level], alone_mse) for level in LEVELS}
    default, why = decide({level: interval for level, interval in overall.items() if interval and level in LEARNED})
    print(f"default level: {default} ({why})")
    return {"cells": tables, "regret": {k: as_list(v) for k, v in overall.items()}, "default": default, "why": why}


def searches(records: list[Record]) -> list[Record]:
    """The searches without ablation."""
    return [r for r in records if r["part"] == "search"]


def cell(records: list[Record], alone_mse: dict) -> Record:
    """Counts and regret of the runs of one level, size and ablation."""
    runs = len(records)
    private, rule = (sum(r["chosen"] == [[r[which]]] for r in records) for which in ("private", "rule"))
    interval = wilson(private / runs, runs)
    return {
        "runs": runs,
        "private": private,
        "private_interval": [interval.low, interval.high],
        "rule": rule,
        **(called(records) if records[0]["part"] == "search" else {}),
        "regret": as_list(regret_of(records, alone_mse)),
    }


def called(records: list[Record]) -> Record:
    """How often the verdict was "ok", on the rule and on other directions."""
    right = [r["chosen"] == [[r["rule"]]] for r in records if r["status"] == "ok"]
    return {"rule_called_ok": sum(right), "other_called_ok": len(right) - sum(right)}


def regret_of(records: list[Record], alone_mse: dict) -> Interval | None:
    """Mean over seeds of the test error of the chosen direction, trained alone, minus that of the rule's direction.

    The sizes of a seed share both directions, so a seed counts once, with the mean of its runs.
    """
    values: dict[int, list[float]] = {}
    for r in records:
        chosen, best = ((r["n"], r["seed"], d) for d in (r["chosen"][0][0], r["rule"]))
        if chosen in alone_mse and best in alone_mse:
            values.setdefault(r["seed"], []).append(alone_mse[chosen] - alone_mse[best])
    return over_seeds([float(np.mean(own)) for own in values.values()]) if len(values) > 1 else None


def as_list(interval: Interval | None) -> list[float] | None:
    """Mean, low and high."""
    return None if interval is None else [round(v, 4) for v in (interval.mean, interval.low, interval.high)]


def decide(regret: dict[str, Interval]) -> tuple[str, str]:
    """Return (level, why): the lowest mean regret, or single where its interval overlaps with that level's."""
    if not regret:
        return "single", "no regret measured yet"
    best = min(regret, key=lambda level: regret[level].mean)
    if best != "single" and "single" in regret and regret["single"].low <= regret[best].high:
        return "single", f"its interval overlaps with that of {best}, and it is cheaper"
    return best, "lowest mean regret"


def draw(summary: Record, path: Path) -> None:
    """P(private direction picked) and regret against the size of the training set, one line per level."""
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    for shift, level in zip((0.88, 0.94, 1.0, 1.06, 1.12), LEVELS, strict=True):
        cells = {n: summary["cells"].get(f"search, n={n}, {level}") for n in SIZES}
        sizes = np.array([n for n, found in cells.items() if found]) * shift
        known = [found for found in cells.values() if found]
        if not known:
            continue
        picked = np.array([c["private"] / c["runs"] for c in known])
        spread = np.abs(np.array([c["private_interval"] for c in known]).T - picked)
        left.errorbar(sizes, picked, yerr=spread, marker="o", capsize=2, label=level)
        if all(c["regret"] for c in known):
            mean, low, high = np.array([c["regret"] for c in known]).T
            right.errorbar(sizes, mean, yerr=[mean - low, high - mean], marker="o", capsize=2, label=level)
    left.axhline(1 / len(EIGHT), color="k", linestyle=":", label="chance")
    left.set_ylabel("private direction picked")
    right.set_ylabel("regret (test mse)")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(SIZES, [str(n) for n in SIZES])
        axes.minorticks_off()
        axes.set_xlabel("training samples")
        axes.legend()
    write_figure(path, figure)


if __name__ == "__main__":
    quiet()
    main(Study(HERE, rows(), work, summarise, draw))
