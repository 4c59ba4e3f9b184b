#!/usr/bin/env bash
# Two metrics of one library, both "mean IoU", rank two networks the other way round.
#
# segmentation.MeanIoU averages the IoU of every image; MulticlassJaccardIndex adds up pixels of the whole set first, as
# segmentation benchmarks do. A small object that is missed in one image costs half of that image in the first, and next to
# nothing in the second. Figures of both are printed as mIoU and are not comparable.
#
# Seen with torchmetrics 1.9.0, PyTorch 2.13.0, Python 3.11:
# misses one small object: MeanIoU 0.748, Jaccard 0.987
# rough on a large one:    MeanIoU 0.908, Jaccard 0.871
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 torchmetrics==1.9.0
venv/bin/python - <<'PY'
import torch
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

target = torch.zeros(2, 20, 20, dtype=torch.long)
target[0, 0, :4] = 1  # a small object
target[1, :10] = 1  # a large one
misses, rough = target.clone(), target.clone()
misses[0, 0, :4] = 0
rough[1, :2] = 0
seen = {}
for name, answer in (("misses one small object:", misses), ("rough on a large one:", rough)):
    by_image = float(MeanIoU(num_classes=2, input_format="index")(answer, target))
    by_pixels = float(MulticlassJaccardIndex(num_classes=2)(answer, target))
    seen[name] = by_image, by_pixels
    print(f"{name:24} MeanIoU {by_image:.3f}, Jaccard {by_pixels:.3f}")
(small_image, small_pixels), (large_image, large_pixels) = seen.values()
assert small_image < large_image and small_pixels > large_pixels, "both rank the networks alike now"
PY
