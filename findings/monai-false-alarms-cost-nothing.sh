#!/usr/bin/env bash
# A network that finds a tumour in every healthy scan has a Dice of 1.0 by MONAI, as high as one that finds none there.
#
# Dice of an image without the object is 0 / 0 where nothing was answered, and 0 where something was. DiceMetric and MeanIoU leave an image
# out of the mean as soon as its truth is empty, whatever the answer is (ignore_empty=True, the default). In a test set of mostly healthy
# people, false alarms are then invisible, and a threshold tuned by such a mean goes too low. ignore_empty=False counts both: 1 where
# nothing is found, 0 where something is. A Dice over all pixels of the set sees them as well.
#
# Seen with monai 1.6.1, PyTorch 2.13.0, Python 3.11; one ill person, found exactly, and three healthy ones:
# in the healthy ones       DiceMetric  MeanIoU  DiceMetric, ignore_empty=False
# nothing is found          1.00        1.00     1.00
# a tumour is found in all  1.00        1.00     0.25
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 monai==1.6.1 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import torch
from monai.metrics import DiceMetric, MeanIoU

tumour = torch.zeros(1, 1, 8, 8)
tumour[0, 0, 2:5, 2:5] = 1
nothing = torch.zeros_like(tumour)
truth = torch.cat([tumour, nothing, nothing, nothing])
ANSWERS = {
    "nothing is found": (truth, (1.0, 1.0, 1.0)),
    "a tumour is found in all": (tumour.expand(4, -1, -1, -1), (1.0, 1.0, 0.25)),
}
print("in the healthy ones       DiceMetric  MeanIoU  DiceMetric, ignore_empty=False")
for name, (answer, expected) in ANSWERS.items():
    seen = []
    for metric in (DiceMetric(), MeanIoU(), DiceMetric(ignore_empty=False)):
        metric(answer, truth)
        seen.append(float(metric.aggregate()))
    print(f"{name:25} {seen[0]:<11.2f} {seen[1]:<8.2f} {seen[2]:.2f}")
    assert tuple(seen) == expected, "images without the object count otherwise now"
PY
