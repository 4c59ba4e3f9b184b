#!/usr/bin/env bash
# A second phase of training at a tenth of the learning rate runs at the rate of the first: a new LambdaLR starts where the first schedule did.
#
# The first schedule leaves `initial_lr` in the optimizer's groups, and no later one replaces it. LambdaLR, with it every schedule of
# Transformers, CosineAnnealingWarmRestarts, and warmup and cosine in a SequentialLR start from there, whatever `lr` was set to, though
# the documentation says that a new LambdaLR "sets initial lr as lr". CosineAnnealingLR and others begin at `lr`. The optimizer's
# state_dict has it too, so fine-tuning from a checkpoint at a lower rate is the same. Delete `initial_lr` from the groups first.
#
# Seen with PyTorch 2.13.0, Transformers 5.24.0, Python 3.11; ten steps, `lr` set from 0.1 to 0.01 before the second schedule:
# second schedule                            highest rate
# CosineAnnealingLR                          0.010
# OneCycleLR                                 0.010
# LambdaLR                                   0.100
# CosineAnnealingWarmRestarts                0.100
# SequentialLR of LinearLR and cosine        0.100
# get_cosine_schedule_with_warmup            0.100
# the same, `initial_lr` deleted             0.010
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 transformers==5.24.0
venv/bin/python -W ignore - <<'PY'
import torch
from torch.optim import lr_scheduler as of
from transformers import get_cosine_schedule_with_warmup

STEPS, FIRST, SECOND = 10, 0.1, 0.01


def parts(optimizer):
    return [of.LinearLR(optimizer, 0.1, total_iters=2), of.CosineAnnealingLR(optimizer, STEPS)]


def highest(schedule, deleted=False):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=FIRST)
    of.StepLR(optimizer, 100)  # the first phase
    (group,) = optimizer.param_groups
    group["lr"] = SECOND
    if deleted:
        del group["initial_lr"]
    second = schedule(optimizer)
    rates = [group["lr"]]
    for _ in range(STEPS):
        optimizer.step()
        second.step()
        rates.append(group["lr"])
    return max(rates)


def warmed(optimizer):
    return get_cosine_schedule_with_warmup(optimizer, 2, STEPS)


CASES = (
    ("CosineAnnealingLR", lambda optimizer: of.CosineAnnealingLR(optimizer, STEPS), False, SECOND),
    ("OneCycleLR", lambda optimizer: of.OneCycleLR(optimizer, SECOND, total_steps=STEPS + 1), False, SECOND),
    ("LambdaLR", lambda optimizer: of.LambdaLR(optimizer, lambda step: 1), False, FIRST),
    ("CosineAnnealingWarmRestarts", lambda optimizer: of.CosineAnnealingWarmRestarts(optimizer, STEPS), False, FIRST),
    ("SequentialLR of LinearLR and cosine", lambda optimizer: of.SequentialLR(optimizer, parts(optimizer), [2]), False, FIRST),
    ("get_cosine_schedule_with_warmup", warmed, False, FIRST),
    ("the same, `initial_lr` deleted", warmed, True, SECOND),
)
print("second schedule                            highest rate")
for name, schedule, deleted, expected in CASES:
    seen = highest(schedule, deleted)
    print(f"{name:42} {seen:.3f}")
    assert round(seen, 3) == expected, "a second schedule begins elsewhere now"
PY
