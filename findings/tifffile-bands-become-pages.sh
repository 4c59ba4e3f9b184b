#!/usr/bin/env bash
# An image of five bands, saved by tifffile as it lies in memory, is a file of as many pages as it has rows; others see its first row.
#
# (H, W, 3) and (H, W, 4) are taken for colour and saved as one page. With two bands, or five and more, imwrite makes H pages of W x C pixels,
# and imread puts them together again, so that one's own look shows nothing. Pillow and OpenCV open the first page: what was the upper
# row of the picture, turned, stands for all of it. Trainers resize such slivers to their input, and nothing is said. ImageIO's TIFF writer
# is tifffile. Say planarconfig="contig" and photometric="minisblack": then readers that cannot take five bands refuse the file.
#
# Seen with tifffile 2026.3.3, imageio 2.38.1, Pillow 13.0.0, opencv-python-headless 5.0.0.93, Python 3.11; images of 48 x 64:
# bands  written by     pages of      Pillow                   OpenCV
# 2      tifffile       48 of 64 x 2  L, 64 x 2                64 x 2
# 5      tifffile       48 of 64 x 5  L, 64 x 5                64 x 5
# 5      imageio        48 of 64 x 5  L, 64 x 5                64 x 5
# 5      tifffile, told 1 of 48 x 64  UnidentifiedImageError   none
# 3      tifffile       1 of 48 x 64  RGB, 48 x 64             48 x 64
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q tifffile==2026.3.3 imageio==2.38.1 pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
venv/bin/python - 2>/dev/null <<'PY'
import cv2
import imageio.v3
import numpy as np
import tifffile
from PIL import Image

HIGH, WIDE = 48, 64


def by_pillow():
    try:
        with Image.open("image.tif") as image:
            return f"{image.mode}, {image.height} x {image.width}"
    except OSError as error:
        return type(error).__name__


def by_opencv():
    image = cv2.imread("image.tif", cv2.IMREAD_UNCHANGED)
    return "none" if image is None else f"{image.shape[0]} x {image.shape[1]}"


def told(path, array):
    tifffile.imwrite(path, array, planarconfig="contig", photometric="minisblack")


CASES = [
    (2, "tifffile", tifffile.imwrite, "48 of 64 x 2", "L, 64 x 2", "64 x 2"),
    (5, "tifffile", tifffile.imwrite, "48 of 64 x 5", "L, 64 x 5", "64 x 5"),
    (5, "imageio", imageio.v3.imwrite, "48 of 64 x 5", "L, 64 x 5", "64 x 5"),
    (5, "tifffile, told", told, "1 of 48 x 64", "UnidentifiedImageError", "none"),
    (3, "tifffile", tifffile.imwrite, "1 of 48 x 64", "RGB, 48 x 64", "48 x 64"),
]
print("bands  written by     pages of      Pillow                   OpenCV")
for bands, name, write, *expected in CASES:
    array = np.random.default_rng(0).integers(0, 256, (HIGH, WIDE, bands), dtype=np.uint8)
    write("image.tif", array)
    assert np.array_equal(tifffile.imread("image.tif"), array)
    with tifffile.TiffFile("image.tif") as file:
        page = file.pages[0]
        pages = f"{len(file.pages)} of {page.imagelength} x {page.imagewidth}"
    seen = [pages, by_pillow(), by_opencv()]
    print(f"{bands:<6} {name:14} {seen[0]:13} {seen[1]:24} {seen[2]}")
    assert seen == expected, "bands are written or read otherwise now"
PY
