#!/usr/bin/env bash
# A layer that is unfrozen late, or a branch that is sampled now and then, is evaluated half trained by Schedule-Free, though its loss is small.
#
# Schedule-Free trains weights y and evaluates an average x. Its part of each step, 1 / k, goes by the count k of all steps of the group,
# also for weights that had no gradient (None) in most of them. What begins at step 1800 of 2000 moves x by 1/1800 of the way a step, while
# y is good: gradients push until it is. The training loss shows nothing; after optimizer.eval() the layer is another one. So are branches
# of a supernet and experts. A group that add_param_group adds when a layer is unfrozen counts on its own, and is right; for sampled
# branches, gradients of 0 in place of None are better. The README has no word of it.
#
# Seen with schedulefree 1.4.1, PyTorch 2.13.0, Python 3.11; a weight that is 0 and should become 1, 200 steps with a gradient:
# its gradients come          AdamW  AdamWScheduleFree: trained  evaluated
# in each of 200 steps        1.000  0.983                       0.980
# in every 10th of 2000       1.000  1.018                       0.919
# in the last 200 of 2000     1.000  1.027                       0.654
# so, in a group added then   1.000  0.983                       0.980
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 schedulefree==1.4.1
venv/bin/python - <<'PY'
import torch
from schedulefree import AdamWScheduleFree
from torch import nn

LATE = 1800


def after(kind, steps, comes, own_group=False, **options):
    """A weight after training, and as it is evaluated; beside it one that has a gradient in each step."""
    weight, other = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
    optimizer = kind([other] if own_group else [other, weight], lr=0.05, **options)
    free = kind is AdamWScheduleFree
    if free:
        optimizer.train()
    for step in range(steps):
        if own_group and step == LATE:
            optimizer.add_param_group({"params": [weight]})
            if free:
                optimizer.train()
        other.grad = 2 * (other.detach() - 1)
        weight.grad = 2 * (weight.detach() - 1) if comes(step) else None
        optimizer.step()
    trained = weight.item()
    if free:
        optimizer.eval()
    return trained, weight.item()


CASES = (
    ("in each of 200 steps", 200, lambda step: True, False, (0.983, 0.98)),
    ("in every 10th of 2000", 2000, lambda step: step % 10 == 0, False, (1.018, 0.919)),
    ("in the last 200 of 2000", 2000, lambda step: step >= LATE, False, (1.027, 0.654)),
    ("so, in a group added then", 2000, lambda step: step >= LATE, True, (0.983, 0.98)),
)
print("its gradients come          AdamW  AdamWScheduleFree: trained  evaluated")
for name, steps, comes, own_group, expected in CASES:
    plain, _ = after(torch.optim.AdamW, steps, comes, own_group, weight_decay=0)
    seen = after(AdamWScheduleFree, steps, comes, own_group)
    print(f"{name:27} {plain:.3f}  {seen[0]:<27.3f} {seen[1]:.3f}")
    assert abs(plain - 1) < 0.02 and all(abs(a - b) < 0.002 for a, b in zip(seen, expected, strict=True)), "late weights are averaged otherwise now"
PY
