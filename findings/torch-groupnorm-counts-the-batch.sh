#!/usr/bin/env bash
# GroupNorm takes two images and refuses one of them, in evaluation too, with an error that speaks of training.
#
# GroupNorm normalises every image by itself, which is why it is taken where batches are small. Yet the check before it, shared with
# BatchNorm, multiplies the size of the batch in. Where a group holds one value of an image, such as 32 groups of 32 channels on
# a map of one cell (the coarsest map of a detector), one image raises "Expected more than 1 value per channel when training". Two
# images pass, and each comes back as the bias alone, whatever it was. LayerNorm over the channels does neither.
#
# Seen with PyTorch 2.13.0, Python 3.11:
# images  mode   GroupNorm(32, 32) on 1 x 1         GroupNorm(4, 32) on 1 x 1
# 1       eval   ValueError: Expected more than 1   largest output 2.05
# 2       eval   largest output 0.00                largest output 2.05
# 1       train  ValueError: Expected more than 1   largest output 2.05
# 2       train  largest output 0.00                largest output 2.05
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import torch
from torch import nn


def answer(norm, images):
    """What a norm makes of images, in one phrase."""
    try:
        return f"largest output {norm(images).abs().max():.2f}"
    except ValueError as error:
        return f"ValueError: {str(error)[:20]}"


torch.manual_seed(0)
image = torch.randn(1, 32, 1, 1)
print(f"{'images':7} {'mode':6} {'GroupNorm(32, 32) on 1 x 1':34} GroupNorm(4, 32) on 1 x 1")
for training in (False, True):
    for number in (1, 2):
        narrow, wide = (nn.GroupNorm(groups, 32).train(training) for groups in (32, 4))
        seen = [answer(norm, image.repeat(number, 1, 1, 1)) for norm in (narrow, wide)]
        print(f"{number:<7} {'train' if training else 'eval':6} {seen[0]:34} {seen[1]}")
        assert seen[0].startswith("ValueError" if number == 1 else "largest output 0.00"), "one value per group is met otherwise now"
        assert seen[1].startswith("largest output") and not seen[1].endswith("0.00")
PY
