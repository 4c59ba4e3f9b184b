#!/usr/bin/env bash
# The fourth band of an aerial image, near-infrared, is written by rasterio as how opaque a pixel is: on a white ground, water is gone.
#
# Four bands of bytes (red, green, blue, near-infrared) are the usual aerial image. Without a word GDAL tags four bytes as RGB and alpha,
# but two or five bands as they are. Whatever opens the file as a picture then blends it: plants, bright in the near-infrared, stay,
# and water and roofs, dark there, turn into the colour of the ground. alpha="no" writes what is meant. In
# files of others, look for a GeoTIFF most of which is half transparent.
#
# Seen with rasterio 1.4.4 (GDAL 3.10.3), Pillow 13.0.0, Python 3.11. Stored: water (20, 40, 60), 10; a field (40, 80, 40), 230
# as it is:    red, green, blue, alpha      Pillow RGBA, on white: [(246, 247, 247), (61, 97, 61)]
# alpha="no":  red, green, blue, undefined  Pillow RGB, on white: [(20, 40, 60), (40, 80, 40)]
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

bands = np.array([[20, 40], [40, 80], [60, 40], [10, 230]], dtype=np.uint8)[:, None]  # (4, 1, 2): water and a field


def seen(**options):
    """What GDAL takes the bands for, and the two pixels on a white ground."""
    with rasterio.open("bands.tif", "w", driver="GTiff", width=2, height=1, count=4, dtype="uint8", **options) as file:
        file.write(bands)
    with rasterio.open("bands.tif") as file:
        kinds = ", ".join(kind.name for kind in file.colorinterp)
    image = Image.open("bands.tif")
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image.convert("RGB"), mask=image.getchannel("A") if image.mode == "RGBA" else None)
    return kinds, image.mode, [tuple(pixel) for pixel in np.asarray(ground)[0].tolist()]


for name, options, expected in (("as it is:", {}, "alpha"), ('alpha="no":', {"alpha": "no"}, "undefined")):
    kinds, mode, pixels = seen(**options)
    print(f"{name:12} {kinds:28} Pillow {mode}, on white: {pixels}")
    assert kinds == f"red, green, blue, {expected}", "four bands are tagged otherwise now"
    assert (mode == "RGBA") == (min(pixels[0]) > 240) == (expected == "alpha"), "the fourth band is shown otherwise now"
PY
