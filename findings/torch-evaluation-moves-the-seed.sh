#!/usr/bin/env bash
# Reading a validation set, in order and without workers, changes all training that follows: each pass takes a random number away.
#
# Every iterator of a DataLoader draws a seed for workers from PyTorch's global generator, also where it has no workers and shuffles nothing.
# So a run that evaluates after every epoch, one that evaluates at the end, and one that goes on from a checkpoint without evaluating first
# train with other dropout and other batches after the first pass, under one seed. The difference between two arms of a comparison is then
# luck in part. A generator of its own for that loader keeps the global one as it was.
#
# Seen with PyTorch 2.13.0, Python 3.11; dropout of one of eight numbers after torch.manual_seed(0) and an evaluation:
# none                                      00100011
# DataLoader, no shuffle, no workers        01000110
# the same with generator=                  00100011
# a list of the same batches                00100011
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import torch
from torch.nn.functional import dropout
from torch.utils.data import DataLoader, TensorDataset

images = TensorDataset(torch.zeros(8, 3))
LOADERS = {
    "none": ((), True),
    "DataLoader, no shuffle, no workers": (DataLoader(images, batch_size=4), False),
    "the same with generator=": (DataLoader(images, batch_size=4, generator=torch.Generator()), True),
    "a list of the same batches": (list(DataLoader(images, batch_size=4)), True),
}
first = None
for label, (loader, same) in LOADERS.items():
    torch.manual_seed(0)
    batches = sum(1 for _ in loader)
    kept = "".join(str(int(number > 0)) for number in dropout(torch.ones(8)))
    first = first or kept
    print(f"{label:41} {kept}")
    assert batches == (0 if label == "none" else 2)
    assert (kept == first) is same, "loaders draw otherwise now"
PY
