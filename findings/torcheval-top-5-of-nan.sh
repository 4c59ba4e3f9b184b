#!/usr/bin/env bash
# A network that has become NaN is right in every image by torcheval once the first five answers count: top-5 accuracy 1.0, top-1 0.1.
#
# With k above 1 torcheval counts the classes whose output is larger than that of the label, and calls the image right if they are fewer
# than k. Nothing is larger than NaN, so no class is ever before the label, whatever the label is; the reciprocal rank is 1.0 for the same
# reason. A network whose outputs are all equal gets the same full marks. Top-1 is counted otherwise, by argmax. Whoever keeps the best
# epoch by top-5 accuracy keeps the one that diverged. Check that outputs are finite, or take torch.topk, where NaN is a guess like any.
#
# Seen with torcheval 0.0.7, PyTorch 2.13.0, Python 3.11; ten classes, 1000 images:
# outputs     top-1   top-5   reciprocal rank   torch.topk's top-5
# at random   0.1     0.5     0.3               0.5
# all NaN     0.1     1.0     1.0               0.5
# all equal   0.1     1.0     1.0               0.5
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 torcheval==0.0.7
venv/bin/python -W ignore - <<'PY'
import math

import torch
from torcheval.metrics.functional import multiclass_accuracy, reciprocal_rank

labels = torch.arange(1000) % 10
cases = {
    "at random": torch.randn(1000, 10, generator=torch.Generator().manual_seed(0)),
    "all NaN": torch.full((1000, 10), math.nan),
    "all equal": torch.zeros(1000, 10),
}
print(f"{'outputs':11} top-1   top-5   reciprocal rank   torch.topk's top-5")
for name, outputs in cases.items():
    first, five = (multiclass_accuracy(outputs, labels, k=k).item() for k in (1, 5))
    rank = reciprocal_rank(outputs, labels).mean().item()
    guessed = (outputs.topk(5).indices == labels[:, None]).any(dim=1).float().mean().item()
    print(f"{name:11} {first:<7.1f} {five:<7.1f} {rank:<17.1f} {guessed:.1f}")
    assert first < 0.15 and guessed < 0.6
    assert (five == rank == 1) == (name != "at random"), "torcheval ranks NaN and equal outputs otherwise now"
PY
