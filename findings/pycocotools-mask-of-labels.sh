#!/usr/bin/env bash
# pycocotools encodes a mask that holds two values other than 0 as another shape, and its area is wrong by a factor.
#
# mask.encode takes any uint8 array. A mask of 0 and 255 is fine, as is one of 0 and 1. Where 1 and 2 meet (a label map), or 1
# and 255 (an object with a void rim, as in many segmentation sets), every change of value toggles between inside and outside: the
# run lengths come out shifted. Nothing is raised. Make masks boolean first.
#
# Seen with pycocotools 2.0.11, numpy 2.4.6, Python 3.11:
# 0 and 255:     area 6 of 6, decoded as it was
# 0, 1 and 255:  area 19 of 6, decoded as another shape
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pycocotools==2.0.11 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
from pycocotools import mask

plain = np.zeros((5, 7), np.uint8, order="F")
plain[1:3, 2:5] = 255
rim = plain.copy(order="F")
rim[1, 2] = 1
for name, pixels, right in (("0 and 255:", plain, True), ("0, 1 and 255:", rim, False)):
    runs = mask.encode(pixels)
    area, same = int(mask.area(runs)), bool(np.array_equal(mask.decode(runs) > 0, pixels > 0))
    print(f"{name:14} area {area} of {int((pixels > 0).sum())}, decoded as {'it was' if same else 'another shape'}")
    assert same is right and (area == 6) is right, "masks of several values are encoded otherwise now"
PY
