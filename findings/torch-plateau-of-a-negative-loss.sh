#!/usr/bin/env bash
# ReduceLROnPlateau never lowers the learning rate where the loss is negative: standing still is progress, and getting worse is too.
#
# What counts as better is a loss below best * (1 - 1e-4), which is lower than the best of a positive loss and higher than that of a
# negative one. So a log-likelihood, an energy or a negated score that repeats itself to the bit is better each time, and one that gets
# worse slowly is as well, and becomes the best. mode="max" of a negative score is the same. timm's PlateauLRScheduler is built on it.
# Nothing is said. threshold_mode="abs" subtracts, and is right for both signs.
#
# Seen with PyTorch 2.13.0, Python 3.11; patience 3, 20 epochs, learning rate 1 at first:
# mode  metric from, to     threshold  learning rate  best
# min    1.0000   1.0000    rel        0.0001          1.0000
# min   -1.0000  -1.0000    rel        1              -1.0000
# min   -1.0000  -0.9990    rel        1              -0.9990
# max   -1.0000  -1.0000    rel        1              -1.0000
# min   -1.0000  -0.9990    abs        0.0001         -1.0000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

EPOCHS = 20
CASES = (
    ("min", 1.0, 0.0, "rel", "0.0001", 1.0),
    ("min", -1.0, 0.0, "rel", "1", -1.0),
    ("min", -1.0, 0.00005, "rel", "1", -0.99905),
    ("max", -1.0, 0.0, "rel", "1", -1.0),
    ("min", -1.0, 0.00005, "abs", "0.0001", -1.0),
)
print("mode  metric from, to     threshold  learning rate  best")
for mode, first, change, threshold, rate, best in CASES:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = ReduceLROnPlateau(optimizer, mode=mode, patience=3, threshold_mode=threshold)
    for epoch in range(EPOCHS):
        metric = first + change * epoch
        optimizer.step()
        schedule.step(metric)
    seen = f"{optimizer.param_groups[0]['lr']:g}"
    print(f"{mode:4}  {first:7.4f}  {metric:7.4f}    {threshold:9}  {seen:13}  {schedule.best:7.4f}")
    assert seen == rate and abs(schedule.best - best) < 1e-9, "a plateau is told otherwise now"
PY
