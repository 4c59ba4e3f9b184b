#!/usr/bin/env bash
# A seeded Optuna study that goes on after a restart tries the same points again.
#
# The study remembers its trials, the sampler does not: it starts its random numbers anew. With a seed, as wanted for runs that
# can be repeated, every restart within the start-up phase (ten trials of TPE) spends whole trainings on points already known.
# Two workers started with one seed double each other in the same way. Seed by trial, not by process.
#
# Seen with Optuna 5.0.0, Python 3.11:
# first start:  [0.488, 2.152, 1.028, 0.449]
# second start: [0.488, 2.152, 1.028, 0.449]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q optuna==5.0.0
venv/bin/python - <<'PY'
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
for _ in range(2):
    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(study_name="lr", storage="sqlite:///study.db", load_if_exists=True, sampler=sampler)
    study.optimize(lambda trial: trial.suggest_float("x", -5, 5) ** 2, n_trials=4)
points = [round(trial.params["x"], 3) for trial in study.trials]
print("first start: ", points[:4])
print("second start:", points[4:])
assert len(points) == 8 and points[:4] == points[4:], "a restart no longer repeats the points"
PY
