#!/usr/bin/env bash
# A checkpoint of the untrained network changes the training after it: get_state_dict of PyTorch takes a step of the optimizer.
#
# torch.distributed.checkpoint's get_state_dict and get_optimizer_state_dict, which read a state, make one where there is none yet: they
# step with a learning rate and gradients of 0. The weights stay, but the step count is 1 and, for Rprop, the size of each step is 0. The
# first step of AdamW is then corrected as the second: 0.74 of what it should be, and a training of the same seed that saved nothing at
# step 0 is another one. It is the same on one process, and in what was saved. Save no optimizer before its first step, or make it anew
# with optimizer.state.clear() after. Nothing is said, and the documentation has no word of it.
#
# Seen with PyTorch 2.13.0, Python 3.11; how far the first step goes, learning rate 0.1:
# optimizer  saved before: no  yes     step count after
# SGD        0.3106            0.3106  -
# AdamW      0.1000            0.0744  2
# RAdam      0.3106            0.1635  2
# Rprop      0.1000            0.0000  2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict

GRADIENT = torch.tensor([[3.1060, -1.0, 0.5]])


def first_step(kind, saved):
    """How far the first step moves a weight, and what the optimizer counts after it."""
    network = nn.Linear(3, 1, bias=False)
    nn.init.zeros_(network.weight)
    optimizer = kind(network.parameters(), lr=0.1)
    if saved:
        get_state_dict(network, optimizer)
    network.weight.grad = GRADIENT.clone()
    optimizer.step()
    count = optimizer.state[network.weight].get("step")
    return network.weight.detach().abs().max().item(), "-" if count is None else str(int(count))


print("optimizer  saved before: no  yes     step count after")
for kind, plain, moved in (("SGD", 0.3106, 0.3106), ("AdamW", 0.1, 0.0744), ("RAdam", 0.3106, 0.1635), ("Rprop", 0.1, 0.0)):
    (without, _), (after, count) = (first_step(getattr(torch.optim, kind), saved) for saved in (False, True))
    print(f"{kind:<10} {without:<17.4f} {after:<7.4f} {count}")
    assert (round(without, 4), round(after, 4)) == (plain, moved), "a state is read otherwise now"
PY
