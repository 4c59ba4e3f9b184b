#!/usr/bin/env bash
# timm lowers the learning rate one epoch before each milestone: with decay_t=[20] there are 19 at the first rate, not 20.
#
# Both count epochs from 0 and are called at the end of each. milestones=[20] of PyTorch is the first epoch at the lower rate; in timm that
# is epoch 19, for the milestones are looked up with the next epoch. Its scheduler of equal steps, decay_t=20, does lower at 20, so the two
# that timm has differ too. A recipe that is carried over is another one, most where milestones are few epochs, or one epoch, apart:
# decay_t=[2] leaves one epoch for the first rate, as decay_t=[1] does. Add 1 to each milestone.
#
# Seen with timm 1.0.31, torch 2.13.0, Python 3.11; the first epochs at the rates 0.1, 0.01 and 0.001 after 1.0:
# PyTorch, milestones=[3, 6, 7]           3 6 7
# timm, decay_t=[3, 6, 7]                 2 5 6
# timm, decay_t=[4, 7, 8]                 3 6 7
# timm, equal steps of decay_t=3          3 6 9
# timm, decay_t=[1]                       1
# timm, decay_t=[2]                       1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/pip install -q --no-deps timm==1.0.31  # its schedules need PyTorch alone
venv/bin/python -W ignore - <<'PY'
import importlib
import importlib.util
import sys
import types

import torch

# only the folder of schedules is read, since the rest needs torchvision
timm = types.ModuleType("timm")
timm.__path__ = importlib.util.find_spec("timm").submodule_search_locations
sys.modules["timm"] = timm
schedulers = importlib.import_module("timm.scheduler")


def drops(name, make, expected):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer)
    rates = []
    for epoch in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if isinstance(schedule, torch.optim.lr_scheduler.LRScheduler) else schedule.step(epoch + 1)
    rates = [1.0, *rates]
    found = [epoch for epoch in range(12) if rates[epoch + 1] < rates[epoch] * 0.99]
    print(f"{name:39} {' '.join(map(str, found))}")
    assert found == expected, "the rate falls in other epochs now"


drops("PyTorch, milestones=[3, 6, 7]", lambda it: torch.optim.lr_scheduler.MultiStepLR(it, [3, 6, 7]), [3, 6, 7])
drops("timm, decay_t=[3, 6, 7]", lambda it: schedulers.MultiStepLRScheduler(it, decay_t=[3, 6, 7], decay_rate=0.1), [2, 5, 6])
drops("timm, decay_t=[4, 7, 8]", lambda it: schedulers.MultiStepLRScheduler(it, decay_t=[4, 7, 8], decay_rate=0.1), [3, 6, 7])
drops("timm, equal steps of decay_t=3", lambda it: schedulers.StepLRScheduler(it, decay_t=3, decay_rate=0.1), [3, 6, 9])
drops("timm, decay_t=[1]", lambda it: schedulers.MultiStepLRScheduler(it, decay_t=[1], decay_rate=0.1), [1])
drops("timm, decay_t=[2]", lambda it: schedulers.MultiStepLRScheduler(it, decay_t=[2], decay_rate=0.1), [1])
PY
