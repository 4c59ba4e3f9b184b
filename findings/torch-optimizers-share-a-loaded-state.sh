#!/usr/bin/env bash
# Two networks that go on from one state share their momentum: load_state_dict of an optimizer takes the tensors over, it copies none.
#
# load_state_dict of a network copies into its weights, so both networks start alike and go apart. Optimizers keep the very tensors of the
# state that they were given: a step of one moves the moments and the step count of the other. Who tries three learning rates from one
# checkpoint that was read once, or goes back to the best state twice, trains with moments of another run. Of runs one after the other only
# the first is right; the second starts from where the moments of the first ended. Nothing is said, and the documentation has no word of it.
# Load copy.deepcopy(state), or read the file anew for each. A state of another data type is copied, as it must be converted.
#
# Seen with PyTorch 2.13.0, Python 3.11; AdamW, three steps of each of two networks, one after the other, from one state after one step:
# the state is loaded  step count, first  step count, second  weights of the two are equal
# as it is             7                  7                   no
# as deep copies       4                  4                   yes
# step count in the state that was kept to go back to: 7, not 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import copy

import torch
from torch import nn

images = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def step(network, optimizer):
    optimizer.zero_grad()
    network(images).square().sum().backward()
    optimizer.step()


torch.manual_seed(0)
network = nn.Linear(3, 2)
optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
step(network, optimizer)
BEST = copy.deepcopy({"network": network.state_dict(), "optimizer": optimizer.state_dict()})


def two(state, loaded):
    """Two networks that go on from `state`, one after the other, and their optimizers."""
    networks = [nn.Linear(3, 2) for _ in range(2)]
    optimizers = [torch.optim.AdamW(network.parameters(), lr=0.1) for network in networks]
    for network, optimizer in zip(networks, optimizers, strict=True):
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(loaded(state["optimizer"]))
    for network, optimizer in zip(networks, optimizers, strict=True):
        for _ in range(3):
            step(network, optimizer)
    return networks, optimizers


print("the state is loaded  step count, first  step count, second  weights of the two are equal")
kept = []
for name, loaded, counts, same in (("as it is", lambda state: state, [7, 7], False), ("as deep copies", copy.deepcopy, [4, 4], True)):
    state = copy.deepcopy(BEST)
    networks, optimizers = two(state, loaded)
    seen = [int(optimizer.state[network.weight]["step"]) for network, optimizer in zip(networks, optimizers, strict=True)]
    equal = torch.equal(networks[0].weight, networks[1].weight)
    kept.append(int(state["optimizer"]["state"][0]["step"]))
    print(f"{name:<20} {seen[0]:<18} {seen[1]:<19} {'yes' if equal else 'no'}")
    assert (seen, equal) == (counts, same), "the state is loaded otherwise now"
print(f"step count in the state that was kept to go back to: {kept[0]}, not {kept[1]}")
assert kept == [7, 1], "the state that was kept is treated otherwise now"
PY
