#!/usr/bin/env bash
# Two metrics that differ in threshold or ignored class give one number in a MetricCollection of torchmetrics, if the first batch was easy.
#
# To save work, a collection compares the states of its metrics after the first batch; equal ones are one group from then on, and only the
# first metric of it is updated. What makes two metrics differ is not looked at. An F1 score at 0.5 and one at 0.9 count alike in a batch of
# sure answers, a mean IoU with and without the background in images that have none; from then on the second shows the first one's counts,
# also after reset(). Which one is right goes by their names. Nothing is said. Pass compute_groups=False.
#
# Seen with torchmetrics 1.9.0, PyTorch 2.13.0, Python 3.11; an easy batch first, then another:
# metric                       in a collection  alone  in the next epoch: in it  alone
# F1 at 50 %                   0.80             0.80   0.67                      0.67
# F1 at 90 %                   0.80             0.67   0.67                      0.00
# mean IoU                     0.75             0.75   0.67                      0.67
# mean IoU, background ignored 0.88             1.00   0.75                      1.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 torchmetrics==1.9.0
venv/bin/python -W ignore - <<'PY'
import torch
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryF1Score, MulticlassJaccardIndex

SCORES = (
    (torch.tensor([0.95, 0.05]), torch.tensor([1, 0])),
    (torch.tensor([0.6, 0.55, 0.4]), torch.tensor([1, 0, 0])),
)
MASKS = (
    (torch.tensor([1, 2, 1, 2]), torch.tensor([1, 2, 1, 2])),
    (torch.tensor([1, 0, 1, 2]), torch.tensor([0, 0, 1, 2])),
)
CASES = (
    ("F1 at 50 %", "F1 at 90 %", lambda: (BinaryF1Score(threshold=0.5), BinaryF1Score(threshold=0.9)), SCORES),
    ("mean IoU", "mean IoU, background ignored", lambda: (MulticlassJaccardIndex(3), MulticlassJaccardIndex(3, ignore_index=0)), MASKS),
)


def epochs(metric, batches):
    """What `metric` is after all batches, and after a second epoch of the last batch alone."""
    seen = []
    for epoch in (batches, batches[1:]):
        for batch in epoch:
            metric.update(*batch)
        seen.append(metric.compute())
        metric.reset()
    return seen


print(f"{'metric':28} in a collection  alone  in the next epoch: in it  alone")
for *names, make, batches in CASES:
    together = epochs(MetricCollection(dict(zip(names, make(), strict=True))), batches)
    wrong = []
    for name, metric in zip(names, make(), strict=True):
        (first, second), (mine, next_mine) = epochs(metric, batches), (epoch[name] for epoch in together)
        print(f"{name:28} {mine:<16.2f} {first:<6.2f} {next_mine:<25.2f} {second:.2f}")
        wrong.append(abs(mine - first) > 0.1 and abs(next_mine - second) > 0.2)
    assert wrong == [False, True], "a collection groups its metrics otherwise now"
PY
