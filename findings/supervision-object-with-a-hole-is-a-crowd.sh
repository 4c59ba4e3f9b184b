#!/usr/bin/env bash
# An object with a hole, or in two parts, leaves supervision as a COCO crowd: nobody asks a detector for it any more.
#
# In COCO's own files crowds have run lengths and single objects polygons. supervision turns that round: as_coco writes a mask that one
# polygon cannot hold as run lengths, and with them iscrowd 1. Run lengths of single objects are as valid. Evaluators pass over crowds,
# and trainers leave them out, so rings, window frames and half-hidden animals are neither learnt nor missed, and nothing is said. Look
# at how many objects of a file are crowds; set iscrowd to 0 where it comes from masks of single objects.
#
# Seen with supervision 0.31.2, pycocotools 2.0.11, Python 3.11 (-1: no object to find):
# in one piece:  iscrowd 0, polygons     AP (segm) of a perfect answer 1.0
# with a hole:   iscrowd 1, run lengths  AP (segm) of a perfect answer -1.0
# in two parts:  iscrowd 1, run lengths  AP (segm) of a perfect answer -1.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q supervision==0.31.2 pycocotools==2.0.11 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import contextlib
import io

import numpy as np
import supervision
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Image.new("RGB", (40, 40)).save("image.png")


def written(mask):
    """The COCO data of an image with one object, as supervision writes them."""
    boxes = supervision.mask_to_xyxy(mask[None]).astype(float)
    found = supervision.Detections(xyxy=boxes, mask=mask[None], class_id=np.array([0]))
    dataset = supervision.DetectionDataset(["thing"], ["image.png"], {"image.png": found})
    dataset.as_coco(annotations_path="truth.json")
    return COCO("truth.json")


def average_precision(truth):
    """AP of an answer that equals what is annotated."""
    (entry,) = truth.anns.values()
    runs = truth.annToRLE(entry)
    answer = truth.loadRes([{"image_id": entry["image_id"], "category_id": entry["category_id"], "segmentation": runs, "score": 1.0}])
    run = COCOeval(truth, answer, "segm")
    run.evaluate(), run.accumulate(), run.summarize()
    return round(float(run.stats[0]), 3)


solid = np.zeros((40, 40), dtype=bool)
solid[5:25, 5:25] = True
ring, parts = solid.copy(), solid.copy()
ring[12:18, 12:18] = False
parts[12:14] = False
for name, mask, expected in (("in one piece:", solid, (0, 1.0)), ("with a hole:", ring, (1, -1.0)), ("in two parts:", parts, (1, -1.0))):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = written(mask)
        (entry,) = truth.anns.values()
        kind = "polygons" if isinstance(entry["segmentation"], list) else "run lengths"
        seen = entry["iscrowd"], average_precision(truth)
    print(f"{name:14} iscrowd {seen[0]}, {kind:12} AP (segm) of a perfect answer {seen[1]}")
    assert seen == expected, "masks are written otherwise now"
PY
