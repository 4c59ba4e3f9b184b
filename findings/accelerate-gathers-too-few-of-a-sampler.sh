#!/usr/bin/env bash
# gather_for_metrics of Accelerate throws away samples of the last batch, on a single process too, where a sampler chose them.
#
# It is said to drop what was repeated to fill the last batch of several processes. How much to keep it computes as the size of the data set
# modulo the batch, whatever the sampler gives: of 60 validation images, drawn by SubsetRandomSampler from 97, one of the last 12 is kept,
# and accuracy is that of 49. Which ones are left out changes with the order. A weighted sampler or RandomSampler(num_samples=) is hit
# alike, and nothing is said; where the modulo is zero or large enough all is well. Give a Subset in place of a sampler, or count what was
# gathered.
#
# Seen with accelerate 1.15.0, PyTorch 2.13.0, Python 3.11; one process, batches of 16:
# images  loaded by              samples  gathered
# 97      all                    97       97
# 97      Subset                 60       60
# 97      SubsetRandomSampler    60       49
# 97      WeightedRandomSampler  60       49
# 100     SubsetRandomSampler    60       52
# 96      SubsetRandomSampler    60       60
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 accelerate==1.15.0 numpy==2.4.6
venv/bin/python - <<'PY'
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler, TensorDataset, WeightedRandomSampler

BATCH, CHOSEN = 16, 60
accelerator = Accelerator(cpu=True)


def images_of(count):
    return TensorDataset(torch.arange(count))


def plain(count):
    return DataLoader(images_of(count), BATCH)


def subset(count):
    return DataLoader(Subset(images_of(count), range(CHOSEN)), BATCH)


def sampled(count):
    return DataLoader(images_of(count), BATCH, sampler=SubsetRandomSampler(range(CHOSEN)))


def weighted(count):
    return DataLoader(images_of(count), BATCH, sampler=WeightedRandomSampler([1.0] * count, CHOSEN))


CASES = (
    (97, "all", plain, 97, 97),
    (97, "Subset", subset, 60, 60),
    (97, "SubsetRandomSampler", sampled, 60, 49),
    (97, "WeightedRandomSampler", weighted, 60, 49),
    (100, "SubsetRandomSampler", sampled, 60, 52),
    (96, "SubsetRandomSampler", sampled, 60, 60),
)
print("images  loaded by              samples  gathered")
for count, name, make, *expected in CASES:
    loader = accelerator.prepare(make(count))
    samples = gathered = 0
    for (batch,) in loader:
        samples += len(batch)
        gathered += len(accelerator.gather_for_metrics(batch))
    print(f"{count:<7} {name:22} {samples:<8} {gathered}")
    assert [samples, gathered] == expected, "samples are gathered otherwise now"
PY
