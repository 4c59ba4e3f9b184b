#!/usr/bin/env bash
# A mask that OpenCV turns into a COCO polygon comes back without its last row and column: of a line one pixel wide nothing is left.
#
# cv2.findContours gives the middles of the pixels at the border, COCO takes points for corners of pixels. Every converter that writes the
# one into the other shrinks each object by a pixel in both directions, and small ones most: at 3 x 12 pixels the IoU of an object with
# itself is 0.61. OpenCV's own round trip is exact, since fillPoly paints the border as well, so that a test with it shows nothing. Walk
# along the edges of the pixels, or write run lengths.
#
# Seen with opencv-python-headless 5.0.0.93, pycocotools 2.0.11, numpy 2.4.6, Python 3.11; pixels of objects 12 high:
#  1 wide: mask  12, OpenCV again  12, COCO   0, IoU 0.00
#  2 wide: mask  24, OpenCV again  24, COCO  11, IoU 0.46
#  3 wide: mask  36, OpenCV again  36, COCO  22, IoU 0.61
# 30 wide: mask 360, OpenCV again 360, COCO 319, IoU 0.89
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q opencv-python-headless==5.0.0.93 pycocotools==2.0.11 numpy==2.4.6
venv/bin/python - <<'PY'
import cv2
import numpy as np
import pycocotools.mask

HIGH, SIDE = 12, 40
for wide in (1, 2, 3, 30):
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[4 : 4 + HIGH, 5 : 5 + wide] = 1
    (outline,), _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    again = cv2.fillPoly(np.zeros_like(mask), [outline], 1)
    polygon = outline.reshape(-1).astype(float).tolist()
    coco = pycocotools.mask.decode(pycocotools.mask.merge(pycocotools.mask.frPyObjects([polygon], SIDE, SIDE)))
    iou = (mask & coco).sum() / (mask | coco).sum()
    print(f"{wide:2} wide: mask {mask.sum():3}, OpenCV again {again.sum():3}, COCO {coco.sum():3}, IoU {iou:.2f}")
    assert np.array_equal(again, mask) and coco.sum() == (wide - 1) * (HIGH - 1), "outlines are traced or filled otherwise now"
PY
