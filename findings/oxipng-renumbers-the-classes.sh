#!/usr/bin/env bash
# A lossless PNG optimiser gives the classes of a palette mask other numbers, and other ones in every file.
#
# The numbers of a palette mask, as of Pascal VOC, are the classes; the colours are for looking at. To oxipng it is the colours that
# count: it sorts the palette of each file and drops what is not used, and the picture stays the same to the last pixel. A class then has
# the number of another one, which trainers accept without a word. Grey masks keep theirs. Compare the palettes of all masks, or go
# by colours.
#
# Seen with pyoxipng 9.1.1, Pillow 13.0.0, numpy 2.4.6, Python 3.11:
# classes 0 1 2 255: read as 0 3 2 1, colours alike: True
# classes 0 1 2:     read as 0 2 1, colours alike: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pyoxipng==9.1.1 pillow==13.0.0 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import oxipng
from PIL import Image

COLOURS = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 255: (224, 224, 192)}
palette = [0] * 768
for number, colour in COLOURS.items():
    palette[3 * number : 3 * number + 3] = colour

seen = {}
for classes in ((0, 1, 2, 255), (0, 1, 2)):
    labels = np.zeros((64, 64), dtype=np.uint8)
    for place, number in enumerate(classes):
        labels[4 * place : 60 - 4 * place, 16 * place : 16 * place + 12] = number
    mask = Image.fromarray(labels)
    mask.putpalette(palette)
    mask.save("mask.png")
    oxipng.optimize("mask.png", "smaller.png")
    with Image.open("smaller.png") as smaller:
        assert smaller.mode == "P"
        numbers = np.asarray(smaller)
        alike = np.array_equal(np.asarray(smaller.convert("RGB")), np.asarray(mask.convert("RGB")))
    seen[classes] = [np.unique(numbers[labels == number]).tolist() for number in classes]
    told = f"classes {' '.join(map(str, classes))}:"
    print(f"{told:18} read as {' '.join(str(*found) for found in seen[classes])}, colours alike: {alike}")
    assert alike, "the picture has changed"
assert seen[0, 1, 2, 255] == [[0], [3], [2], [1]] and seen[0, 1, 2] == [[0], [2], [1]], "palettes are sorted otherwise now"
PY
