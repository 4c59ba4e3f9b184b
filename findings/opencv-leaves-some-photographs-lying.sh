#!/usr/bin/env bash
# OpenCV sets a photograph upright as JPEG, PNG or WebP; the same one as AVIF stays lying, and so does one turned by XMP alone.
#
# cv2.imread heeds the orientation of EXIF by default, so one trusts that what is annotated or measured with it is upright. Pillow's
# exif_transpose turns all of these. Boxes drawn with the one and trained on with the other lie beside their objects, half of the images
# turned by a right angle, in a folder that mixes formats. Compare the sides that annotations tell with those of the upright image.
#
# Seen with opencv-python-headless 5.0.0.93, Pillow 13.0.0, Python 3.11; stored 4 x 2 pixels (width x height), orientation 6:
# JPEG:           OpenCV 2 x 4, Pillow 2 x 4
# PNG:            OpenCV 2 x 4, Pillow 2 x 4
# WebP:           OpenCV 2 x 4, Pillow 2 x 4
# AVIF:           OpenCV 4 x 2, Pillow 2 x 4
# JPEG with XMP:  OpenCV 4 x 2, Pillow 2 x 4
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
venv/bin/python - <<'PY'
import cv2
from PIL import ExifTags, Image, ImageOps

exif = Image.Exif()
exif[ExifTags.Base.Orientation] = 6
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
CASES = (
    ("JPEG:", "JPEG", {"exif": exif}, True), ("PNG:", "PNG", {"exif": exif}, True), ("WebP:", "WEBP", {"exif": exif}, True),
    ("AVIF:", "AVIF", {"exif": exif}, False), ("JPEG with XMP:", "JPEG", {"xmp": XMP}, False),
)  # fmt: skip
for name, format, told, turned in CASES:
    Image.new("RGB", (4, 2), "grey").save("photograph", format=format, **told)
    height, width = cv2.imread("photograph").shape[:2]
    upright = ImageOps.exif_transpose(Image.open("photograph")).size
    print(f"{name:15} OpenCV {width} x {height}, Pillow {upright[0]} x {upright[1]}")
    assert upright == (2, 4) and (width, height) == ((2, 4) if turned else (4, 2)), "photographs are turned otherwise now"
PY
