#!/usr/bin/env bash
# The box of a whole image of 40 pixels is 163 pixels wide after Kornia has resized image and box to 160, and shrinks too far the other way.
#
# AugmentationSequential moves boxes by the matrix of the step. Resize's maps the middle of the last pixel to the middle of the last pixel,
# 159 / 39 in place of 160 / 40, while the pixels themselves are resized as everywhere else, by their edges. The further right and
# down an object is, and the more the size changes, the further its box lies beside it; nothing is said, and training and scores take
# such boxes for the truth. Scale boxes by the sizes, without the matrix.
#
# Seen with kornia 0.9.0, PyTorch 2.13.0, Python 3.11; left and right of the box, and of the same object's pixels:
# 40 to 160, the whole image  box 0.00..163.08   pixels 0..160
# 40 to 160, from 20 to 40    box 81.54..163.08  pixels 80..160
# 160 to 40, the whole image  box 0.00..39.25    pixels 0..40
# 160 to 40, from 80 to 160   box 19.62..39.25   pixels 20..40
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 kornia==0.9.0
venv/bin/python -W ignore - <<'PY'
import torch
from kornia.augmentation import AugmentationSequential, Resize

for side, size in ((40, 160), (160, 40)):
    resized = AugmentationSequential(Resize((size, size)), data_keys=["input", "mask", "bbox_xyxy"])
    for left, name in ((0, "the whole image"), (side // 2, f"from {side // 2} to {side}")):
        pixels = torch.zeros(1, 1, side, side)
        pixels[..., left:] = 1
        box = torch.tensor([[[left, 0.0, side, side]]])
        _, mask, moved = resized(pixels, pixels, box)
        columns = torch.nonzero(mask[0, 0, 0] > 0.5)[:, 0]
        first, last = moved[0, 0, 0].item(), moved[0, 0, 2].item()
        seen = columns.min().item(), columns.max().item() + 1
        print(f"{side} to {size}, {name:16} box {f'{first:.2f}..{last:.2f}':14} pixels {seen[0]}..{seen[1]}")
        assert seen == (left * size // side, size), "pixels are resized otherwise now"
        scale = (size - 1) / (side - 1)
        assert abs(first - left * scale) < 1e-3 and abs(last - side * scale) < 1e-3, "boxes are resized otherwise now"
PY
