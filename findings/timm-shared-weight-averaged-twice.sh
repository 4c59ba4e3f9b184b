#!/usr/bin/env bash
# In timm's moving average, a weight that two layers share follows the training twice as fast as all others.
#
# ModelEmaV3 and V2 go through the state_dict, where a shared weight has a name for each of its layers, and move it once for each name. With
# decay d it keeps d * d of what it was in a step, and d ** k where k layers share it: with d = 0.9998 and a head that six decoder layers
# share it remembers 833 steps, and the rest of the network 5000. The averaged network is thus made of weights of different times, also
# where branches of a supernet share theirs. Nothing is said. exclude_buffers=True goes through the parameters, each once, as PyTorch's
# AveragedModel does.
#
# Seen with timm 1.0.31, PyTorch 2.13.0, Python 3.11; decay 0.9, a weight that was 0 and is 1, after one step:
# layers that share it  ModelEmaV3  ModelEmaV2  V3, exclude_buffers  AveragedModel
# 1                     0.1000      0.1000      0.1000               0.1000
# 2                     0.1900      0.1900      0.1000               0.1000
# 6                     0.4686      0.4686      0.1000               0.1000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/pip install -q --no-deps timm==1.0.31  # its averages need PyTorch alone
venv/bin/python - <<'PY'
import importlib.util
import sysconfig
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

file = Path(sysconfig.get_path("purelib")) / "timm" / "utils" / "model_ema.py"
spec = importlib.util.spec_from_file_location("model_ema", file)
timm = importlib.util.module_from_spec(spec)
spec.loader.exec_module(timm)
DECAY = 0.9


def network(count):
    layers = torch.nn.ModuleList(torch.nn.Linear(1, 1, bias=False) for _ in range(count))
    for layer in layers:
        layer.weight = layers[0].weight
    return layers


def averaged(make, update, count):
    layers = network(count)
    weight = layers[0].weight
    with torch.no_grad():
        weight.zero_()
        average = make(layers)
        update(average, layers)  # PyTorch's first step takes the weights over
        weight.fill_(1)
        update(average, layers)
    (mine,) = average.module.parameters()
    return mine.item()


WAYS = (
    (lambda net: timm.ModelEmaV3(net, decay=DECAY), lambda average, net: average.update(net)),
    (lambda net: timm.ModelEmaV2(net, decay=DECAY), lambda average, net: average.update(net)),
    (lambda net: timm.ModelEmaV3(net, decay=DECAY, exclude_buffers=True), lambda average, net: average.update(net)),
    (lambda net: AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(DECAY)), lambda average, net: average.update_parameters(net)),
)
print("layers that share it  ModelEmaV3  ModelEmaV2  V3, exclude_buffers  AveragedModel")
for count, by_name in ((1, 0.1), (2, 0.19), (6, 0.4686)):
    seen = [averaged(make, update, count) for make, update in WAYS]
    print(f"{count:<21} {seen[0]:<11.4f} {seen[1]:<11.4f} {seen[2]:<20.4f} {seen[3]:.4f}")
    assert [round(value, 4) for value in seen] == [by_name, by_name, 0.1, 0.1], "shared weights are averaged otherwise now"
PY
