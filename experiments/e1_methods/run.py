"""Which ways of searching find a planted direction, and at what cost in branches computed?

python -m experiments.e1_methods.run [--only TEXT] [--shard 0/2] [--limit-minutes 30] [--summary]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.e1_planted.run import STEPS, TASKS
from experiments.runs import LIGHT, UNCHECKED, epochs_for, quiet, search
from experiments.study import EIGHT, Record, Row, Study, main
from lmsearch.figures.canvas import new_figure
from lmsearch.files import write_figure
from lmsearch.stats.intervals import wilson

HERE = Path(__file__).resolve().parent
SEEDS = range(20, 22)  # seen by no other study
CONTROL_SEEDS = range(200, 208)
BASE = "search=darts"  # what a method without a preset of its own changes
METHODS: dict[str, tuple[str, ...]] = {  # preset, and what keep=1 needs besides
    "softmax": (),
    "bilevel": ("search=bilevel",),
    "mixed": ("search=mixed",),
    "sampled, 4 of 8": ("search=sampled",),
    "gumbel, 4 of 8": ("search=gdas", "search.samples=4"),
    "gumbel, 2 of 8": ("search=gdas",),
    "dirichlet": ("search=drnas",),
    "sigmoid": ("search=fairdarts",),
    "exponentiated gradient": ("search=gaea",),
    "shrink to 6, 4, 2": ("search=shrink",),
    "partial channels 4": ("search=pcdarts",),
    "perturbation": ("search.derivation=perturbation",),
    "fair": ("search=fair",),
}


def rows() -> list[Row]:
    """Seed by seed, so that an interrupted study holds every method alike; then the control without a direction."""
    found = []
    for seed in SEEDS:
        for task in TASKS:
            for method, words in METHODS.items():
                found += [row("recovery", method, words, task, d, seed) for d in EIGHT]
    for seed in CONTROL_SEEDS:
        found += [row("control", method, words, "token_mean", "h", seed) for method, words in METHODS.items()]
    return found


def row(part: str, method: str, more: tuple[str, ...], task: str, direction: str, seed: int) -> Row:
    """One search of STEPS steps; alphas take the large steps of the planted preset where the method's own does not say."""
    rate = () if method == "exponentiated gradient" else ("search.alpha_lr=0.03",)
    words = ("data=planted", f"data.task={task}", f"data.direction={direction}", f"seed={seed}", *more, *rate)
    facts = {"method": method, "task": task, "direction": direction, "seed": seed}
    return Row(part, (*words, f"epochs={epochs_for(STEPS, samples=None)}", LIGHT), facts)


def work(found: Row) -> Record:
    """Search, and tell whether the planted direction was chosen."""
    words = (BASE, *found.words)
    result = search(words if found.part == "control" else (*words, UNCHECKED))
    return result | {"right": result["chosen"] == [[found.facts["direction"]]]}


def summarise(records: list[Record]) -> Record:
    """Recovery with 95 % intervals per method and task, and how often the control was called indeterminate."""
    summary: Record = {"steps": STEPS, "chance": 1 / len(EIGHT), "methods": {}}
    for method in METHODS:
        mine = [r for r in records if r["method"] == method]
        found = {task: counted([r for r in mine if r["part"] == "recovery" and r["task"] == task]) for task in TASKS}
        controls = [r for r in mine if r["part"] == "control"]
        undecided = sum(r["status"] == "indeterminate" for r in controls)
        summary["methods"][method] = found | {"control": {"runs": len(controls), "indeterminate": undecided}}
        shown = ", ".join(f"{task} {c['found']} of {c['runs']}" for task, c in found.items() if c)
        print(f"{method}: {shown}; control indeterminate {undecided} of {len(controls)}")
    return summary


def counted(records: list[Record]) -> Record | None:
    """Runs that found the planted direction, with interval, and CPU time."""
    if not records:
        return None
    found, runs = sum(r["right"] for r in records), len(records)
    interval = wilson(found / runs, runs)
    return {
        "found": found, "runs": runs, "interval": [interval.low, interval.high],
        "median_cpu_s": float(np.median([r["cpu_s"] for r in records])),
    }  # fmt: skip


def draw(summary: Record, path: Path) -> None:
    """Recovery per method and task, with intervals and the chance level."""
    figure = new_figure(9, 4.5)
    axes = figure.subplots()
    names = list(summary["methods"])
    for shift, task in zip((-0.18, 0.18), TASKS, strict=True):
        known = [(n + shift, counts) for n, name in enumerate(names) if (counts := summary["methods"][name][task])]
        heights = np.array([c["found"] / c["runs"] for _, c in known])
        spread = np.array([c["interval"] for _, c in known]).T if known else np.zeros((2, 0))
        axes.bar([n for n, _ in known], heights, 0.34, label=task, yerr=np.abs(spread - heights), capsize=2)
    axes.axhline(summary["chance"], color="black", linestyle=":", label="chance")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set(ylabel="planted direction found", title=f"Recovery in {summary['steps']} steps, with 95 % intervals")
    axes.legend(loc="lower left")
    write_figure(path, figure)


if __name__ == "__main__":
    quiet()
    main(Study(HERE, rows(), work, summarise, draw))
