#!/usr/bin/env bash
# A label map of the classes 0 to 3, saved as a grey PNG of 2 bits, is read as 0, 85, 170 and 255 by Pillow and OpenCV.
#
# PNG's samples of 1, 2 and 4 bits are brightness, so readers spread them over 0 to 255: right for a picture, wrong for numbers of
# classes. Class 3 becomes 255, which most trainers leave out as void, and the others become classes that nobody has; nothing is
# said. Writers that choose the smallest bit depth make such files. The numbers come back by dividing by 85 (2 bits) or 17 (4
# bits), which only the file's header tells; Pillow keeps it in image.tile as "L;2" and "L;4" until the pixels are loaded. With 1
# bit the two readers differ as well: 1 and 255. A palette has no such trouble.
#
# Seen with Pillow 13.0.0, opencv-python-headless 5.0.0.93, pypng 0.20220715.0, Python 3.11:
# 1 bit:   written [0, 1]        Pillow [0, 1]             OpenCV [0, 255]
# 2 bits:  written [0, 1, 2, 3]  Pillow [0, 85, 170, 255]  OpenCV [0, 85, 170, 255]
# 4 bits:  written [0, 1, 2, 3]  Pillow [0, 17, 34, 51]    OpenCV [0, 17, 34, 51]
# 8 bits:  written [0, 1, 2, 3]  Pillow [0, 1, 2, 3]       OpenCV [0, 1, 2, 3]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pillow==13.0.0 opencv-python-headless==5.0.0.93 pypng==0.20220715.0 numpy==2.4.6
venv/bin/python - <<'PY'
import cv2
import numpy as np
import png
from PIL import Image

SPREAD = {1: (1, 255), 2: (85, 85), 4: (17, 17), 8: (1, 1)}  # bits: what Pillow and OpenCV make of 1

for bits, (pillow, opencv) in SPREAD.items():
    labels = list(range(min(4, 2**bits)))
    with open("labels.png", "wb") as file:
        png.Writer(len(labels), 1, greyscale=True, bitdepth=bits).write(file, [labels])
    seen = np.asarray(Image.open("labels.png")).astype(int)[0].tolist(), cv2.imread("labels.png", cv2.IMREAD_UNCHANGED)[0].tolist()
    name = f"{bits} bit{'s' if bits > 1 else ''}:"
    print(f"{name:8} written {labels!s:13} Pillow {seen[0]!s:18} OpenCV {seen[1]}")
    assert [list(part) for part in png.Reader("labels.png").read()[2]] == [labels]
    assert seen == ([pillow * label for label in labels], [opencv * label for label in labels]), "labels are read otherwise now"
PY
