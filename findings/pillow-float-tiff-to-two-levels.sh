#!/usr/bin/env bash
# A floating-point image with values in 0..1, as scikit-image, medical and depth tools write it, turns nearly black in Pillow.
#
# convert("L") and convert("RGB") take the numbers as if they ran to 255 and cut the fraction off, so 256 grey levels become two,
# 0 and 1 of 255. The usual `Image.open(path).convert("RGB")` of an image data set thus feeds black pictures to the network, and
# nothing fails. Mode F has to be scaled, or refused when its range is not 0..1.
#
# Seen with Pillow 13.0.0, numpy 2.4.6, Python 3.11:
# written: 256 levels from 0.0 to 1.0
# convert("L"):   levels [0, 1]
# convert("RGB"): levels [0, 1]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pillow==13.0.0 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
from PIL import Image

ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
Image.fromarray(ramp).save("ramp.tif")
image = Image.open("ramp.tif")
levels = np.unique(np.asarray(image))
print(f"written: {len(levels)} levels from {levels[0]} to {levels[-1]}")
assert image.mode == "F" and np.array_equal(np.asarray(image), ramp), "the stored values are not read back"
for mode in ("L", "RGB"):
    seen = np.unique(np.asarray(image.convert(mode))).tolist()
    print(f'convert("{mode}"): levels {seen}')
    assert seen == [0, 1], "floating-point levels are scaled now"
PY
