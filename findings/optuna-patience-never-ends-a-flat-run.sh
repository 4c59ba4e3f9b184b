#!/usr/bin/env bash
# Optuna's pruner with patience 3 never ends a training whose loss stands still, and a larger min_delta makes it wait longer, not shorter.
#
# Early stopping elsewhere ends a run that has not become better by min_delta within its patience. Optuna's PatientPruner ends one that has
# become worse by more than min_delta: the best before the last steps is compared with the best of these, and an equal one passes. So
# networks that learn nothing, at the accuracy of chance in every epoch, are trained to the end, and who raises min_delta to stop sooner
# gets the opposite. End flat runs by a rule of one's own.
#
# Seen with Optuna 5.0.0, Python 3.11; the step at which a loss of 30 steps is pruned:
#                          min_delta 0    min_delta 0.1
# stands still             never          never
# falls by 0.0001 a step   never          never
# 0.4, then 0.45           step 5         never
# 0.4, then 0.55           step 5         step 5
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q optuna==5.0.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import optuna

optuna.logging.set_verbosity(optuna.logging.CRITICAL)
LOSSES = {
    "stands still": ([0.5] * 30, (None, None)),
    "falls by 0.0001 a step": ([0.5 - 0.0001 * step for step in range(30)], (None, None)),
    "0.4, then 0.45": ([0.5, 0.4] + [0.45] * 28, (5, None)),
    "0.4, then 0.55": ([0.5, 0.4] + [0.55] * 28, (5, 5)),
}


def pruned_at(losses, min_delta):
    study = optuna.create_study(pruner=optuna.pruners.PatientPruner(None, patience=3, min_delta=min_delta))
    trial = study.ask()
    for step, loss in enumerate(losses):
        trial.report(loss, step)
        if trial.should_prune():
            return step
    return None


print(f"{'':24} min_delta 0    min_delta 0.1")
for label, (losses, expected) in LOSSES.items():
    steps = tuple(pruned_at(losses, min_delta) for min_delta in (0, 0.1))
    told = ["never" if step is None else f"step {step}" for step in steps]
    print(f"{label:24} {told[0]:14} {told[1]}")
    assert steps == expected, "patience means another thing now"
PY
