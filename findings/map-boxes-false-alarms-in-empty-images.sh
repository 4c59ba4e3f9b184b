#!/usr/bin/env bash
# Detections in images without objects cost nothing in map-boxes, also where its option to leave those images out is False, its default.
#
# `exclude_not_in_annotations` is said to exclude the images that have no annotation; they are gone with True and with False. Only images
# that the table of annotations names are gone through, and an empty one has no row there. A detector that sees a cat in every empty image
# has the AP of one that sees none, so most of what monitoring cameras or tumour scans are judged by is missing. Nothing is said.
# Give every empty image a row of its own whose class is NaN: such rows are no objects, and their images are looked at.
#
# Seen with map-boxes 1.0.6, pandas 2.3.3, Python 3.11; two images with a cat each, found with 0.5; AP of the cat:
# images without objects, a cat seen in each with 0.9   left out: False  True  a row for each
# 0                                                     1.00             1.00  1.00
# 2                                                     1.00             1.00  0.50
# 98                                                    1.00             1.00  0.02
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q numpy==2.4.6 pandas==2.3.3 map-boxes==1.0.6
venv/bin/python - <<'PY'
import math

import numpy as np
from map_boxes import mean_average_precision_for_boxes

BOX = (0, 10, 0, 10)  # XMin, XMax, YMin, YMax
OBJECTS = [(image, "cat", *BOX) for image in ("first", "second")]
FOUND = [(image, "cat", 0.5, *BOX) for image in ("first", "second")]


def precision(objects, found, **options):
    tables = np.array(objects, object), np.array(found, object)
    return mean_average_precision_for_boxes(*tables, verbose=False, **options)[1]["cat"][0]


print("images without objects, a cat seen in each with 0.9   left out: False  True  a row for each")
for count, expected in ((0, 1.0), (2, 0.5), (98, 0.02)):
    empty = [f"empty{number}" for number in range(count)]
    found = FOUND + [(image, "cat", 0.9, *BOX) for image in empty]
    rows = OBJECTS + [(image, math.nan, *BOX) for image in empty]
    kept, excluded = (precision(OBJECTS, found, exclude_not_in_annotations=out) for out in (False, True))
    named = precision(rows, found)
    print(f"{count:<53} {kept:<16.2f} {excluded:<5.2f} {named:.2f}")
    assert kept == excluded == 1 and abs(named - expected) < 0.005, "images without objects count otherwise now"
PY
