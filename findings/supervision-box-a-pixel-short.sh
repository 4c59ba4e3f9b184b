#!/usr/bin/env bash
# The box that supervision makes of a mask ends before its last column and row: a line one pixel wide has a box of no area.
#
# mask_to_xyxy gives the numbers of the first and last pixels, and boxes are edges: of 30 columns 29 are inside. OpenCV, scikit-image and
# pycocotools give 30. What segments images and passes its masks on as boxes (as_coco, trackers) trains and scores against boxes
# that are a pixel short to the right and below; at 3 x 12 pixels the IoU with the box of the same mask is 0.61, so that a perfect
# answer fails at most thresholds of AP. Compute boxes from the masks yourself.
#
# Seen with supervision 0.31.2, opencv-python-headless 5.0.0.93, scikit-image 0.26.0, pycocotools 2.0.11, Python 3.11; width x height:
# mask     supervision  its COCO file  OpenCV   scikit-image  pycocotools  IoU
# 30 x 12  29 x 11      29 x 11        30 x 12  30 x 12       30 x 12      0.89
# 3 x 12   2 x 11       2 x 11         3 x 12   3 x 12        3 x 12       0.61
# 1 x 12   0 x 11       0 x 11         1 x 12   1 x 12        1 x 12       0.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q supervision==0.31.2 opencv-python-headless==5.0.0.93 scikit-image==0.26.0 pycocotools==2.0.11 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import json
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask
import skimage.measure
import supervision
from PIL import Image

HIGH = 12
Image.new("RGB", (40, 40)).save("image.png")


def sides(left, top, right, bottom):
    return int(right - left), int(bottom - top)


def in_coco_file(mask, box):
    found = supervision.Detections(xyxy=box[None].astype(float), mask=mask[None], class_id=np.array([0]))
    dataset = supervision.DetectionDataset(["thing"], ["image.png"], {"image.png": found})
    dataset.as_coco(annotations_path="coco.json")
    (entry,) = json.loads(Path("coco.json").read_text())["annotations"]
    return tuple(map(int, entry["bbox"][2:]))


print("mask     supervision  its COCO file  OpenCV   scikit-image  pycocotools  IoU")
for wide in (30, 3, 1):
    mask = np.zeros((40, 40), dtype=bool)
    mask[4 : 4 + HIGH, 5 : 5 + wide] = True
    (box,) = supervision.mask_to_xyxy(mask[None])
    (region,) = skimage.measure.regionprops(mask.astype(np.uint8))
    top, left, bottom, right = region.bbox
    run_lengths = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    seen = [
        sides(*box),
        in_coco_file(mask, box),
        cv2.boundingRect(mask.astype(np.uint8))[2:],
        sides(left, top, right, bottom),
        tuple(map(int, pycocotools.mask.toBbox(run_lengths)[2:])),
    ]
    iou = seen[0][0] * seen[0][1] / (wide * HIGH)
    print("{:8} {:12} {:14} {:8} {:13} {:12}".format(*(f"{w} x {h}" for w, h in ((wide, HIGH), *seen))), f"{iou:.2f}")
    assert seen == [(wide - 1, HIGH - 1)] * 2 + [(wide, HIGH)] * 3, "boxes are made of masks otherwise now"
PY
