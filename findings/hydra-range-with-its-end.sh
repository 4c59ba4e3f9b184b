#!/usr/bin/env bash
# range(1,5) of a Hydra sweep is 1 to 4 by itself, 1 to 5 with the Optuna sweeper, and there without the last value again in a grid.
#
# Hydra's range leaves the end out, as Python's does. The Optuna plugin makes an integer distribution of it, whose end belongs to it, so a
# search tries, and may choose, a value that was excluded: one more layer, or a direction that does not exist. Its grid sampler leaves out
# whatever is last in the distribution, with a step also a value that Hydra has: 5 of range(1,6,2). Nothing is said. choice(1,2,3,4) is
# the same everywhere.
#
# Seen with hydra-core 1.3.2, hydra-optuna-sweeper 1.2.0, Optuna 2.10.1, Python 3.11; values that were tried:
# layers=         basic     random sampler   grid sampler
# range(1,5)      1 2 3 4   1 2 3 4 5        1 2 3 4
# range(1,6,2)    1 3 5     1 3 5            1 3
# choice(1,3,5)   1 3 5     1 3 5            1 3 5
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q hydra-core==1.3.2 omegaconf==2.3.0 hydra-optuna-sweeper==1.2.0 optuna==2.10.1 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import sys

import hydra
from hydra.core.config_store import ConfigStore

ConfigStore.instance().store("config", {"layers": 1})
COMMON = ["hydra.sweep.dir=runs", "hydra.output_subdir=null", "hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]
OPTUNA = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=24"]
SWEEPERS = (
    [],
    [*OPTUNA, "hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=1"],
    [*OPTUNA, "hydra/sweeper/sampler=grid"],
)
CASES = (
    ("range(1,5)", ["1 2 3 4", "1 2 3 4 5", "1 2 3 4"]),
    ("range(1,6,2)", ["1 3 5", "1 3 5", "1 3"]),
    ("choice(1,3,5)", ["1 3 5", "1 3 5", "1 3 5"]),
)
tried = set()


@hydra.main(version_base=None, config_path=None, config_name="config")
def loss(config):
    tried.add(config.layers)
    return float(config.layers)


def values_of(layers, sweeper):
    tried.clear()
    sys.argv = ["search", "-m", *sweeper, *COMMON, f"layers={layers}"]
    loss()
    return " ".join(map(str, sorted(tried)))


print("layers=         basic     random sampler   grid sampler")
for layers, expected in CASES:
    seen = [values_of(layers, sweeper) for sweeper in SWEEPERS]
    print(f"{layers:15} {seen[0]:9} {seen[1]:16} {seen[2]}")
    assert seen == expected, "sweepers try other values now"
PY
