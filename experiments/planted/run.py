"""Recover planted directions, and find nothing where nothing is planted: writes results.json beside this file.

python experiments/planted/run.py [--seeds 3] [--controls 8] [--first-control-seed 0]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from lmsearch.cli import main

DIRECTIONS = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip")
HERE = Path(__file__).resolve().parent


def search(task: str, seed: int, direction: str = "h") -> dict:
    """Run one search on a planted task and return what it chose and how sure it was."""
    began = time.perf_counter()
    with TemporaryDirectory() as run_dir:
        words = [
            "data=planted",
            f"data.task={task}",
            f"data.direction={direction}",
            f"seed={seed}",
            f"run_dir={run_dir}",
        ]
        if code := main(["search", *words]):
            raise SystemExit(f"lmsearch search {' '.join(words)} ended with exit code {code}")
        genotype = json.loads((Path(run_dir) / "genotype.json").read_text())
        environment = json.loads((Path(run_dir) / "environment.json").read_text())
    (layer,) = genotype["layers"]
    return {
        "task": task, "planted": direction if task in ("decayed_sum", "latest_key") else None, "seed": seed,
        "chosen": layer["directions"], "margin": layer["margin"], "health": genotype["health"],
        "took_s": round(time.perf_counter() - began, 1), "environment": environment,
    }  # fmt: skip


def run() -> None:
    """Run every search, save after each, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="seeds per planted direction")
    parser.add_argument("--controls", type=int, default=8, help="seeds per control without a direction")
    parser.add_argument("--first-control-seed", type=int, default=0)
    options = parser.parse_args()
    jobs = [("decayed_sum", seed, d) for d in DIRECTIONS for seed in range(options.seeds)]
    first = options.first_control_seed
    jobs += [(task, seed, "h") for task in ("token_mean", "random") for seed in range(first, first + options.controls)]
    rows = []
    for task, seed, direction in jobs:
        rows.append(search(task, seed, direction))
        (HERE / "results.json").write_text(json.dumps({"runs": rows}, indent=1, sort_keys=True) + "\n")
    planted = [r for r in rows if r["planted"]]
    print(f"recovered: {sum(r['chosen'] == [r['planted']] for r in planted)} of {len(planted)}")
    print(f"called ok: {sum(r['health']['status'] == 'ok' for r in planted)} of {len(planted)}")
    for task in ("token_mean", "random"):
        controls = [r for r in rows if r["task"] == task]
        print(
            f"{task}: indeterminate in {sum(r['health']['status'] == 'indeterminate' for r in controls)} of {len(controls)}"
        )


if __name__ == "__main__":
    run()
