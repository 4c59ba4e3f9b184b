#!/usr/bin/env bash
# An epoch that StatefulDataLoader resumes at its half gives a quarter of the images twice and a quarter never, where a sampler chose them.
#
# It is made to go on in the middle of an epoch, and with shuffle=True it does, to the image. Of a sampler that has no state, such as
# SubsetRandomSampler, with which searches split training and validation, it skips as many images as had been given. Those are the
# first ones of an order drawn anew: another one. PyTorch's generator is restored here too, which does not help: its state is the one
# behind that drawing. A generator with a seed helps in the first epoch only. Take torch.utils.data.Subset with shuffle=True instead.
#
# Seen with torchdata 0.11.0, torch 2.13.0, Python 3.11; 100 images, stopped and resumed behind 50; how many are given twice and never:
# images chosen by                         first epoch   second epoch
# shuffle=True                             0 0           0 0
# SubsetRandomSampler                      27 27         23 23
# SubsetRandomSampler, generator, seed 0   0 0           23 23
# Subset, shuffle=True                     0 0           0 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/pip install -q --no-deps torchdata==0.11.0 requests==2.34.2 urllib3==2.8.0
venv/bin/python -W ignore - <<'PY'
from collections import Counter

import torch
from torch.utils.data import Subset, SubsetRandomSampler
from torchdata.stateful_dataloader import StatefulDataLoader


def seeded(sampler):
    return sampler(range(100), generator=torch.Generator().manual_seed(0))


MADE = {
    "shuffle=True": lambda: StatefulDataLoader(range(100), batch_size=10, shuffle=True),
    "SubsetRandomSampler": lambda: StatefulDataLoader(range(100), batch_size=10, sampler=SubsetRandomSampler(range(100))),
    "SubsetRandomSampler, generator, seed 0": lambda: StatefulDataLoader(
        range(100), batch_size=10, sampler=seeded(SubsetRandomSampler)
    ),
    "Subset, shuffle=True": lambda: StatefulDataLoader(Subset(range(100), range(100)), batch_size=10, shuffle=True),
}


def resumed(make, epochs_before):
    """Return how many images of an epoch come twice and never where another process goes on at its half."""
    torch.manual_seed(1)
    loader = make()
    for _ in range(epochs_before):
        list(loader)
    given, batches = [], iter(loader)
    for _ in range(5):
        given += next(batches).tolist()
    state, generator = loader.state_dict(), torch.get_rng_state()
    torch.manual_seed(1)
    fresh = make()
    fresh.load_state_dict(state)
    torch.set_rng_state(generator)
    for batch in fresh:
        given += batch.tolist()
    counts = Counter(given)
    assert len(given) == 100
    return sum(count == 2 for count in counts.values()), 100 - len(counts)


print("images chosen by                         first epoch   second epoch")
found = {}
for name, make in MADE.items():
    found[name] = resumed(make, 0), resumed(make, 1)
    print(f"{name:40} {'{} {}'.format(*found[name][0]):13} {'{} {}'.format(*found[name][1])}")
assert found["shuffle=True"] == found["Subset, shuffle=True"] == ((0, 0), (0, 0))
assert min(found["SubsetRandomSampler"])[0] > 10, "the order of a sampler is kept now"
assert found["SubsetRandomSampler, generator, seed 0"][1][0] > 10, "the state of its generator is kept now"
PY
