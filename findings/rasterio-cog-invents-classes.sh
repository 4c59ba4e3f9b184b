#!/usr/bin/env bash
# A map of the classes 1 and 11, written by rasterio as a cloud-optimized GeoTIFF and read smaller with "nearest", has seven classes.
#
# Such a file (driver="COG") holds smaller copies of itself besides. For anything without a palette GDAL makes them by cubic interpolation,
# also of whole numbers, and every reading at half the size or less begins with a copy, whatever resampling was asked for: "mode" counts
# classes that were never there. 6 lies between, 0 and 12 beyond. Maps of 512 pixels at most have no copies, so a small test shows nothing,
# and read at full size the map is right. Write with overview_resampling="mode" or "nearest"; read others in full and shrink them yourself.
#
# Seen with rasterio 1.4.4 (GDAL 3.10.3), Python 3.11; a map of 1024 x 1024, read with 256 x 256:
# written as                         nearest                 mode
# GTiff                              1 11                    1 11
# COG                                0 1 2 6 10 11 12        0 1 2 6 10 11 12
# COG, overview_resampling="mode"    1 11                    1 11
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q rasterio==1.4.4 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
import rasterio
from rasterio.enums import Resampling

squares = np.arange(1024) // 7  # fields of 7 x 7 pixels
fields = np.where((squares[:, None] + squares) % 2, 1, 11).astype(np.uint8)
INVENTED = [0, 1, 2, 6, 10, 11, 12]
CASES = {
    "GTiff": ({"driver": "GTiff"}, [1, 11]),
    "COG": ({"driver": "COG"}, INVENTED),
    'COG, overview_resampling="mode"': ({"driver": "COG", "overview_resampling": "mode"}, [1, 11]),
}
print(f"{'written as':34} {'nearest':23} mode")
for name, (options, expected) in CASES.items():
    with rasterio.open("fields.tif", "w", width=1024, height=1024, count=1, dtype="uint8", **options) as file:
        file.write(fields, 1)
    with rasterio.open("fields.tif") as file:
        assert (file.read(1) == fields).all(), "the map itself is stored otherwise now"
        ways = Resampling.nearest, Resampling.mode
        seen = [np.unique(file.read(1, out_shape=(256, 256), resampling=way)).tolist() for way in ways]
    nearest, mode = (" ".join(map(str, classes)) for classes in seen)
    print(f"{name:34} {nearest:23} {mode}")
    assert seen == [expected, expected], "smaller copies are made or read otherwise now"
PY
