#!/usr/bin/env bash
# A network whose weights have just been changed answers as before, to the bit, as long as the same block of autocast lasts.
#
# The first pass rounds every weight that trains to bfloat16 or float16, and autocast keeps the rounded copies until its outermost block
# ends. Who changes weights in between and looks again, as a step of second order in architecture search does (step, held-out loss,
# step back), or an ensemble that moves its weights, looks at the old network: the difference is zero, and nothing is said. A block of its
# own for each pass does not help inside of another one. Open a block for each pass alone, or give cache_enabled=False.
#
# Seen with PyTorch 2.13.0, Python 3.11; how far the loss falls by a step of SGD:
# float32                              0.2
# a block for each pass                0.2
# one block around both                0.0
# a block for each pass, in another    0.0
# one block, with torch.no_grad()      0.0
# one block, cache_enabled=False       0.2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
from contextlib import nullcontext
from functools import partial

import torch
from torch import nn

half = partial(torch.autocast, "cpu", torch.bfloat16)


def fallen(around, of_pass, mode=nullcontext):
    """How much a loss falls by one step along its gradient, measured within `around`, each pass within `of_pass`."""
    net = nn.Linear(4, 1, bias=False)
    nn.init.zeros_(net.weight)
    net.weight.grad = torch.full((1, 4), -0.5)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with around(), mode():
        losses = []
        for last in (False, True):
            with of_pass():
                losses.append(1 - net(torch.ones(1, 4)).float().sum().item())
            if not last:
                optimizer.step()
    return round(losses[0] - losses[1], 2)


CASES = (
    ("float32", (nullcontext, nullcontext), 0.2),
    ("a block for each pass", (nullcontext, half), 0.2),
    ("one block around both", (half, nullcontext), 0.0),
    ("a block for each pass, in another", (half, half), 0.0),
    ("one block, with torch.no_grad()", (half, nullcontext, torch.no_grad), 0.0),
    ("one block, cache_enabled=False", (partial(half, cache_enabled=False), nullcontext), 0.2),
)
for label, how, expected in CASES:
    print(f"{label:36} {fallen(*how)}")
    assert fallen(*how) == expected, "changed weights are met otherwise now"
PY
