#!/usr/bin/env bash
# Pillow doubles the values of a JPEG 2000 image of 15 bits, as the bands of Sentinel-2 are, and leaves those of a TIFF of 12 bits.
#
# With JPEG 2000 whatever has 9 to 15 bits is shifted up to 16, so that white is white; numbers of classes and reflectances become other
# numbers, and of the depth nothing is left in the image. GDAL gives the numbers of the file. With 4 bits it is the same, times 16.
# With TIFF, Pillow does not shift, so that the largest value has to be taken from the tags. Whoever scales 16-bit grey by 65535 is right
# for the one and 16 times too dark for the other.
#
# Seen with rasterio 1.4.4 (GDAL 3.10.3), Pillow 13.0.0, Python 3.11. The largest value:
# JPEG 2000,  4 bits: stored    15, GDAL    15, Pillow   240 (L)
# JPEG 2000,  8 bits: stored   255, GDAL   255, Pillow   255 (L)
# JPEG 2000, 12 bits: stored  4095, GDAL  4095, Pillow 65520 (I;16)
# JPEG 2000, 15 bits: stored 32767, GDAL 32767, Pillow 65534 (I;16)
# TIFF,      12 bits: stored  4095, GDAL  4095, Pillow  4095 (I;16)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q rasterio==1.4.4 pillow==13.0.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
import rasterio
from PIL import Image

JPEG2000 = {"driver": "JP2OpenJPEG", "quality": 100, "reversible": "YES"}
CASES = (
    ("JPEG 2000,", 4, JPEG2000, 16), ("JPEG 2000,", 8, JPEG2000, 1), ("JPEG 2000,", 12, JPEG2000, 16),
    ("JPEG 2000,", 15, JPEG2000, 2), ("TIFF,", 12, {"driver": "GTiff"}, 1),
)  # fmt: skip
for name, bits, options, factor in CASES:
    dtype = "uint8" if bits <= 8 else "uint16"
    stored = np.linspace(0, 2**bits - 1, 32 * 32).astype(dtype).reshape(1, 32, 32)
    with rasterio.open("band", "w", width=32, height=32, count=1, dtype=dtype, nbits=bits, **options) as file:
        file.write(stored)
    with rasterio.open("band") as file:
        of_gdal = file.read()
    with Image.open("band") as image:
        of_pillow = np.asarray(image)
    told = f"{name:10} {bits:2} bits: stored {stored.max():5}, GDAL {of_gdal.max():5}, Pillow {of_pillow.max():5} ({image.mode})"
    print(told)
    assert np.array_equal(of_gdal, stored), "the file itself holds other values"
    assert np.array_equal(of_pillow, stored[0].astype(int) * factor), "depths are read otherwise now"
PY
