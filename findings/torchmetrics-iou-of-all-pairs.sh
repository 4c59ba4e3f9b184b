#!/usr/bin/env bash
# A detector that finds three objects to the pixel has an IoU of 0.33 by torchmetrics, and one that misses all but one of ten has 1.0.
#
# IntersectionOverUnion means every box of an image with every object of the same class there, not each with its own: the objects apart from
# one another bring zeros, so the more objects of a class an image has, the worse a perfect detector is. iou_threshold does not pair them
# either: what is below it is left out of the mean, and so is every object that was missed and every false alarm. The generalised, distance
# and complete IoU do the same, and are below zero for perfect boxes. The example of the documentation has one object. Pair boxes
# and objects first, or compare detectors by mean average precision.
#
# Seen with torchmetrics 1.9.0, torchvision 0.28.0, torch 2.13.0, Python 3.11; one image, all objects of one class:
# objects  boxes                         IoU     threshold 0.5   GIoU     threshold 0.5
# 1        all, exact                    1.000   1.000            1.000   1.000
# 3        all, exact                    0.333   1.000           -0.292   1.000
# 10       all, exact                    0.100   1.000           -0.778   1.000
# 10       one, exact                    0.100   1.000           -0.786   1.000
# 10       one, exact, 20 false alarms   0.005   1.000           -0.988   1.000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 pillow==13.0.0 packaging==26.4 lightning-utilities==0.15.3
venv/bin/pip install -q --no-deps torchmetrics==1.9.0 torchvision==0.28.0
venv/bin/python -W ignore - <<'PY'
import torch

# PyPI's torchvision looks for CUDA; boxes need none of what it then lacks
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchmetrics.detection import GeneralizedIntersectionOverUnion, IntersectionOverUnion


def boxes(count, first=0):
    corners = 40.0 * torch.arange(first, first + count).unsqueeze(1)
    return torch.cat([corners, corners, corners + 10, corners + 10], 1)


def score(metric, found, objects):
    count = len(found)
    metric.update(
        [{"boxes": found, "scores": torch.ones(count), "labels": torch.ones(count, dtype=torch.long)}],
        [{"boxes": objects, "labels": torch.ones(len(objects), dtype=torch.long)}],
    )
    return round(next(iter(metric.compute().values())).item(), 3)


CASES = (
    (1, "all, exact", boxes(1)),
    (3, "all, exact", boxes(3)),
    (10, "all, exact", boxes(10)),
    (10, "one, exact", boxes(1)),
    (10, "one, exact, 20 false alarms", torch.cat([boxes(1), boxes(20, first=10)])),
)
print("objects  boxes                         IoU     threshold 0.5   GIoU     threshold 0.5")
for count, name, found in CASES:
    row = []
    for kind in (IntersectionOverUnion, GeneralizedIntersectionOverUnion):
        row += [score(kind(), found, boxes(count)), score(kind(iou_threshold=0.5), found, boxes(count))]
    print(f"{count:<8} {name:29} {row[0]:.3f}   {row[1]:.3f}           {row[2]:6.3f}   {row[3]:.3f}")
    if name == "all, exact":
        assert abs(row[0] - 1 / count) < 1e-3, "boxes are compared with their own objects now"
        assert count == 1 or row[2] < 0
    assert row[1] == row[3] == 1, "what is missed costs something now"
PY
