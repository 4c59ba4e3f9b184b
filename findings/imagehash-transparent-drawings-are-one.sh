#!/usr/bin/env bash
# Black drawings on a transparent ground are all duplicates of one another to imagehash, whatever they show: each is a black image.
#
# Every hash of imagehash begins with convert("L"), which drops how opaque a pixel is. A canvas of a browser, of Cairo or of Pillow is
# transparent black, so that icons, sketches and signatures drawn in black on it have the same hash, distance 0, and a data set that is
# rid of duplicates keeps one of them; the same drawings on white lie far apart. A transparent copy is no duplicate of the white one either.
# Paste images on white before they are hashed, as viewers show them (the loader of a data set that uses convert has the same black images).
#
# Seen with imagehash 4.3.2, pillow 13.0.0, numpy 2.4.6, Python 3.11; a disc, a cross, a frame and a bar; distance of 64 bits:
# hash          least of two on transparent  greatest of two on transparent  least of two on white
# average_hash  0                            0                               16
# phash         0                            0                               24
# dhash         0                            0                               25
# whash         0                            0                               23
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q imagehash==4.3.2 pywavelets==1.9.0 scipy==1.17.1 numpy==2.4.6 pillow==13.0.0
venv/bin/python - <<'PY'
from itertools import combinations

import imagehash
from PIL import Image, ImageDraw

SIDE = 64


def drawings(ground):
    """Return four images in black on `ground`, saved as PNG and opened again."""
    for place, draw in enumerate(
        (
            lambda pen: pen.ellipse((12, 12, 52, 52), fill="black"),
            lambda pen: [pen.line(ends, fill="black", width=9) for ends in ((6, 6, 58, 58), (6, 58, 58, 6))],
            lambda pen: pen.rectangle((6, 6, 58, 58), outline="black", width=8),
            lambda pen: pen.rectangle((0, 26, 64, 38), fill="black"),
        )
    ):
        image = Image.new("RGBA", (SIDE, SIDE), ground)
        draw(ImageDraw.Draw(image))
        image.save(f"{place}.png")
        with Image.open(f"{place}.png") as opened:
            opened.load()
            yield opened


print("hash          least of two on transparent  greatest of two on transparent  least of two on white")
for name in ("average_hash", "phash", "dhash", "whash"):
    distances = []
    for ground in ((0, 0, 0, 0), "white"):
        hashes = [getattr(imagehash, name)(image) for image in drawings(ground)]
        distances.append([int(one - other) for one, other in combinations(hashes, 2)])
    transparent, white = distances
    print(f"{name:13} {min(transparent):<28} {max(transparent):<31} {min(white)}")
    assert set(transparent) == {0} and min(white) > 10, "transparent images are hashed otherwise now"
PY
