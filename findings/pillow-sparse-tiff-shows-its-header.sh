#!/usr/bin/env bash
# Where a GeoTIFF stores nothing, GDAL reads zeros, and Pillow shows the bytes that the file begins with.
#
# A mosaic is written with SPARSE_OK: of tiles without data only offset 0 is noted, which GDAL and tifffile take for "empty". Pillow goes
# to byte 0 of the file and takes its header and directory for pixels, "II*" first, without an error where tiles are not compressed (an
# error where they are). A network gets noise, and a mask dozens of classes. Look for offsets of 0 (tags 273 and 324).
#
# Seen with rasterio 1.4.4 (GDAL 3.10.3), tifffile 2026.3.3, Pillow 13.0.0, Python 3.11. One tile of four is written, full of 7:
# GDAL:      0 7
# tifffile:  0 7
# Pillow:    23 values, the first pixels of an empty tile b'II*\x00'
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q rasterio==1.4.4 tifffile==2026.3.3 pillow==13.0.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
import rasterio
import tifffile
from PIL import Image
from rasterio.windows import Window

options = {"driver": "GTiff", "tiled": True, "blockxsize": 16, "blockysize": 16, "sparse_ok": True}
with rasterio.open("mosaic.tif", "w", width=32, height=32, count=1, dtype="uint8", **options) as file:
    file.write(np.full((1, 16, 16), 7, dtype=np.uint8), window=Window(0, 16, 16, 16))
with rasterio.open("mosaic.tif") as file:
    of_gdal = file.read(1)
of_tifffile, of_pillow = tifffile.imread("mosaic.tif"), np.asarray(Image.open("mosaic.tif"))
print("GDAL:     ", *np.unique(of_gdal))
print("tifffile: ", *np.unique(of_tifffile))
first = of_pillow[0, :4].tobytes()
print(f"Pillow:    {len(np.unique(of_pillow))} values, the first pixels of an empty tile {first}")
assert np.unique(of_gdal).tolist() == [0, 7] and np.array_equal(of_tifffile, of_gdal), "empty tiles are no zeros now"
with open("mosaic.tif", "rb") as file:
    assert file.read(4) == first == b"II*\0", "Pillow reads empty tiles otherwise now"
PY
