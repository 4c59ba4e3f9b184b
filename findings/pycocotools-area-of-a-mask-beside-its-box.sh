#!/usr/bin/env bash
# The same masks get another AP by size, 1.0 in place of 0.5, when each result also names its box, though masks are what is compared.
#
# COCO's results may hold a mask, a box, or both, and evaluation is told which to compare ("segm"). pycocotools compares masks then,
# but takes the area of a result from its box wherever there is one. A thin line has few pixels and a large box: as a wrong answer
# among small objects it counts by its mask, and not at all by its box. AP over all sizes is the same. Write masks without boxes
# where masks are scored by size.
#
# Seen with pycocotools 2.0.11, Python 3.11:
# masks alone: AP (segm) of small objects 0.500, area of the wrong result 64
# masks and boxes: AP (segm) of small objects 1.000, area of the wrong result 4096
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pycocotools==2.0.11 numpy==2.4.6
venv/bin/python - <<'PY'
import contextlib
import io
import json

import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SIDE = 128


def runs(pixels):
    """The run lengths of a mask."""
    found = masks.encode(np.asfortranarray(pixels.astype(np.uint8)))
    return {"size": found["size"], "counts": found["counts"].decode()}


def diagonal(start):
    """A thin line: 64 pixels in a box of 64 x 64."""
    pixels = np.zeros((SIDE, SIDE), dtype=bool)
    for step in range(64):
        pixels[step, start + step] = True
    return pixels


right, wrong = diagonal(0), diagonal(32)
truth = {
    "images": [{"id": 1, "width": SIDE, "height": SIDE}],
    "categories": [{"id": 1, "name": "thing"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 64, 64], "area": 64, "iscrowd": 0, "segmentation": runs(right)}
    ],
}
with open("truth.json", "w") as file:
    json.dump(truth, file)


def judged(*, boxes):
    """AP of small objects by masks, and the area of the wrong, surest result."""
    found = [
        {"image_id": 1, "category_id": 1, "score": score, "segmentation": runs(pixels)}
        | ({"bbox": [left, 0, 64, 64]} if boxes else {})
        for score, pixels, left in ((0.9, wrong, 32), (0.8, right, 0))
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO("truth.json")
        loaded = data.loadRes(found)
        run = COCOeval(data, loaded, "segm")
        run.evaluate(), run.accumulate(), run.summarize()
    return float(run.stats[3]), int(loaded.anns[1]["area"])


for name, boxes in (("masks alone", False), ("masks and boxes", True)):
    precision, area = judged(boxes=boxes)
    print(f"{name}: AP (segm) of small objects {precision:.3f}, area of the wrong result {area}")
    assert (round(precision, 3), area) == ((1.0, 4096) if boxes else (0.5, 64)), "areas are taken otherwise now"
PY
