#!/usr/bin/env bash
# A training whose score has become NaN is never ended by Ignite's EarlyStopping, and one NaN lets it forget the best score.
#
# A score that is not better counts against the patience. A comparison with NaN is false, so NaN is no score that is not better: it is
# taken as the best so far and the count begins again. So is any number after it. A network that has diverged trains on to its last epoch,
# and one NaN of a validation set that is empty now and then makes 0.1 the best after 0.9. Lightning, which has the same callback, ends
# at NaN. Return -inf for NaN from score_function, or add TerminateOnNan, which looks at the outputs of the training.
#
# Seen with PyTorch-Ignite 0.5.5, torch 2.13.0, Python 3.11; patience=3, twelve scores, the epochs that were trained:
# scores                          NaN as it is   NaN as -inf
# 0.9, then 0.1                   4              4
# 0.9, then NaN                   12             4
# 0.9, NaN, then 0.1              6              4
# 0.9, and in turn 0.1 0.1 NaN    12             4
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 packaging==26.4
venv/bin/pip install -q --no-deps pytorch-ignite==0.5.5
venv/bin/python -W ignore - <<'PY'
import logging
import math

logging.disable(logging.CRITICAL)

from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping


def epochs(scores, replace):
    trainer = Engine(lambda engine, batch: None)
    validation = Engine(lambda engine, batch: None)
    coming = iter(scores)

    def score(engine):
        number = next(coming)
        return -math.inf if replace and math.isnan(number) else number

    validation.add_event_handler(Events.COMPLETED, EarlyStopping(patience=3, score_function=score, trainer=trainer))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: validation.run([0]) and None)
    return trainer.run([0], max_epochs=len(scores)).epoch


NAN = math.nan
CASES = (
    ("0.9, then 0.1", [0.9] + [0.1] * 11, 4),
    ("0.9, then NaN", [0.9] + [NAN] * 11, 12),
    ("0.9, NaN, then 0.1", [0.9, NAN] + [0.1] * 10, 6),
    ("0.9, and in turn 0.1 0.1 NaN", [0.9] + [0.1, 0.1, NAN] * 3 + [0.1, 0.1], 12),
)
print("scores                          NaN as it is   NaN as -inf")
for name, scores, expected in CASES:
    found = epochs(scores, False), epochs(scores, True)
    print(f"{name:31} {found[0]:<14} {found[1]}")
    assert found == (expected, 4), "NaN is answered otherwise now"
PY
