#!/usr/bin/env bash
# An image and its mask, both shrunk to a quarter by OpenCV in the usual ways, lie 1.5 pixels apart: the mask's own rule is another.
#
# cv2.INTER_NEAREST takes the first pixel of every block of four, while INTER_LINEAR and INTER_AREA look around its middle. Labels are
# resized by INTER_NEAREST, since nothing may be mixed, so they stand still while the image moves by (factor - 1) / 2. A network
# learns borders that are beside the objects. INTER_NEAREST_EXACT and Pillow's NEAREST take the middle; so does "nearest-exact" of
# PyTorch, not its "nearest".
#
# Seen with opencv-python-headless 5.0.0.93, Pillow 13.0.0, numpy 2.4.6, Python 3.11. Twelve pixels that hold their own place, to three:
# INTER_AREA           [1.5, 5.5, 9.5]
# INTER_NEAREST        [0.0, 4.0, 8.0]
# INTER_NEAREST_EXACT  [2.0, 6.0, 10.0]
# Pillow NEAREST       [2.0, 6.0, 10.0]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
venv/bin/python - <<'PY'
import cv2
import numpy as np
from PIL import Image

places = np.arange(12, dtype=np.float32)[None].repeat(4, axis=0)
SEEN = {"INTER_AREA": [1.5, 5.5, 9.5], "INTER_NEAREST": [0.0, 4.0, 8.0], "INTER_NEAREST_EXACT": [2.0, 6.0, 10.0]}
for name, expected in SEEN.items():
    held = cv2.resize(places, (3, 1), interpolation=getattr(cv2, name))[0].tolist()
    print(f"{name:20} {held}")
    assert held == expected, f"{name} takes other pixels now"
held = np.asarray(Image.fromarray(places).resize((3, 1), Image.Resampling.NEAREST))[0].tolist()
print(f"{'Pillow NEAREST':20} {held}")
assert held == SEEN["INTER_NEAREST_EXACT"], "Pillow takes other pixels now"
PY
