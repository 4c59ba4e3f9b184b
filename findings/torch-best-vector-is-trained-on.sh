#!/usr/bin/env bash
# The vector that holds the best weights changes as soon as the network that got them from it trains on.
#
# "Copy slices of a vector into an iterable of parameters" is what PyTorch says of vector_to_parameters; it copies nothing. Each weight is a
# view of the vector from then on. Evolution and population methods, averages along a path and searches for sharpness keep vectors: one that
# was put into a network once is no longer what was kept, and two networks that got the same vector are one network, where each step of one
# is a step of both. parameters_to_vector, the way there, does copy. Nothing is said. Give vector.clone(), or copy_ into each weight.
#
# Seen with PyTorch 2.13.0, Python 3.11; a vector of eight zeros, put into two networks, of which the first takes one step of 1:
# given            the vector after  the second network after
# vector           -1                -1
# vector.clone()   0                 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters


def after(give):
    """The best vector and a second network, after the first one has taken a step."""
    best = torch.zeros(8)
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    for network in (first, second):
        vector_to_parameters(give(best), network.parameters())
    for weight in first.parameters():
        weight.grad = torch.ones_like(weight)
    torch.optim.SGD(first.parameters(), lr=1.0).step()
    values = [tensor.unique().tolist() for tensor in (best, parameters_to_vector(second.parameters()))]
    assert all(len(value) == 1 for value in values)
    return [value for (value,) in values]


print("given            the vector after  the second network after")
for name, give, left in (("vector", lambda best: best, -1), ("vector.clone()", torch.clone, 0)):
    vector, second = after(give)
    print(f"{name:<16} {vector:<17.0f} {second:.0f}")
    assert (vector, second) == (left, left), "vectors are put into networks otherwise now"
PY
