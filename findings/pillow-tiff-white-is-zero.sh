#!/usr/bin/env bash
# Pillow turns a white-is-zero TIFF the right way round when it has 8 bits, and leaves it negative when it has 16.
#
# The tag PhotometricInterpretation says that 0 is white. Scanners and microscopes write it. A data set that mixes both depths
# is read half positive and half negative, without a word, and a classifier of brightness learns the opposite on one half.
# Whoever reads 16-bit grey from Pillow has to look at the tag.
#
# Seen with Pillow 13.0.0, tifffile 2026.3.3, Python 3.11:
# 8 bits:  mode L, white (stored as 0) reads 255, black (stored as 255) reads 0
# 16 bits: mode I;16, white (stored as 0) reads 0, black (stored as 65535) reads 65535
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import tifffile
from PIL import Image

ramp = np.arange(256).reshape(16, 16)
read = {}
for bits, stored in ((8, ramp.astype(np.uint8)), (16, (ramp * 257).astype(np.uint16))):
    tifffile.imwrite("grey.tif", stored, photometric="miniswhite")
    image = Image.open("grey.tif")
    pixels = np.asarray(image)
    white, black = read[bits] = int(pixels[0, 0]), int(pixels[-1, -1])
    name = f"{bits} bits:"
    print(f"{name:8} mode {image.mode}, white (stored as 0) reads {white}, black (stored as {stored.max()}) reads {black}")
assert read[8] == (255, 0), "8 bits are no longer turned round"
assert read[16] == (0, 65535), "16 bits are no longer left as stored"
PY
