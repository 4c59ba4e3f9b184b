#!/usr/bin/env bash
# A scan order that a network keeps as a buffer is another one in PyTorch's moving average of the network: some of its indices sink by one.
#
# Averaging with use_buffers=True, as in PyTorch's own example and as its page advises for BatchNorm, averages whole numbers as well: as
# float32, cut to whole numbers. Of an index that never changes, decay * x + (1 - decay) * x is often a bit below x, and is stored as
# x - 1. Some tokens are read twice and others never, as with any table of positions, in the average alone, which is what is evaluated and
# kept. It hangs on the decay: 0.9 and 0.9999 do it, 0.99 and 0.999 do not. Counters stand still. Nothing is said. Copy what is not
# floating-point after each update, or leave use_buffers out.
#
# Seen with PyTorch 2.13.0, Python 3.11; the order of 196 tokens and a counter, 2000 updates:
# decay    indices that changed  the first ones become        the counter of 2000
# 0.9      52                    3 -> 2, 6 -> 5, 7 -> 6       1990
# 0.99     0                                                  1901
# 0.999    0                                                  1001
# 0.9995   59                    3 -> 2, 6 -> 5, 12 -> 11     1
# 0.9999   34                    11 -> 10, 22 -> 21, 29 -> 28 1
# 0.99998  56                    19 -> 18, 23 -> 22, 27 -> 26 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

UPDATES = 2000


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("order", torch.arange(196))
        self.register_buffer("steps", torch.tensor(0))


print("decay    indices that changed  the first ones become        the counter of 2000")
for decay, expected in ((0.9, 52), (0.99, 0), (0.999, 0), (0.9995, 59), (0.9999, 34), (0.99998, 56)):
    network = Network()
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    for _ in range(UPDATES):
        network.steps += 1
        average.update_parameters(network)
    order, steps = average.module.order, average.module.steps.item()
    changed = (order != network.order).nonzero().flatten().tolist()
    first = ", ".join(f"{index} -> {order[index]}" for index in changed[:3])
    print(f"{decay:<8} {len(changed):<21} {first:<28} {steps}")
    assert average.module.weight.item() - 1 < 1e-6 and steps < UPDATES
    assert len(changed) == expected and (network.order - order).max().item() == bool(expected), "whole numbers are averaged otherwise now"
PY
