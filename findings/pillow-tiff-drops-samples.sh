#!/usr/bin/env bash
# Pillow opens a TIFF of two or of six samples per pixel as plain grey or RGB and throws the other samples away in silence.
#
# Satellite and microscope images have more bands than three. With some numbers of samples Pillow refuses the file (four grey
# ones, eight), so a reader trusts that what opens is whole. Here it opens, and training goes on with half of the bands.
#
# Seen with Pillow 13.0.0, tifffile 2026.3.3, Python 3.11:
# 2 samples stored: mode L, array (8, 8)
# 6 samples stored: mode RGB, array (8, 8, 3)
# 4 samples stored as grey: UnidentifiedImageError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

for samples, photometric, shape in ((2, "minisblack", (8, 8)), (6, "rgb", (8, 8, 3))):
    stored = np.arange(64 * samples, dtype=np.uint8).reshape(8, 8, samples)
    tifffile.imwrite("bands.tif", stored, photometric=photometric, planarconfig="contig")
    assert np.array_equal(tifffile.imread("bands.tif"), stored), "the file itself is not whole"
    image = Image.open("bands.tif")
    print(f"{samples} samples stored: mode {image.mode}, array {np.asarray(image).shape}")
    assert np.asarray(image).shape == shape, "another number of samples is read now"
tifffile.imwrite("bands.tif", np.zeros((8, 8, 4), np.uint8), photometric="minisblack", planarconfig="contig")
try:
    Image.open("bands.tif")
except UnidentifiedImageError as error:
    print("4 samples stored as grey:", type(error).__name__)
else:
    raise SystemExit("four grey samples are opened now")
PY
