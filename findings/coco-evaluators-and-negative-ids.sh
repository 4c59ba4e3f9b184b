#!/usr/bin/env bash
# Two evaluators of the same COCO protocol give 1.0 and 0.0 for the same perfect detections: the annotation ids are negative.
#
# faster-coco-eval is a drop-in replacement for pycocotools. Both mark a match by the id of the annotation; what is 0 counts as
# unmatched in both, what is below 0 only in one. Ids below zero come from tools that number derived objects downwards. Number
# annotations from 1 before any evaluator sees them.
#
# Seen with pycocotools 2.0.11, faster-coco-eval 1.8.0, Python 3.11:
# ids 1, 2:    pycocotools AP 1.000, faster-coco-eval AP 1.000
# ids -1, -2:  pycocotools AP 1.000, faster-coco-eval AP 0.000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pycocotools==2.0.11 faster-coco-eval==1.8.0 numpy==2.4.6
venv/bin/python - <<'PY'
import contextlib
import io
import json

import faster_coco_eval
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BOX = [10, 10, 20, 20]


def average_precision(coco, evaluator, ids):
    """AP of detections that equal the two annotated boxes."""
    truth = {
        "images": [{"id": i, "width": 64, "height": 64} for i in (1, 2)],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": key, "image_id": i, "category_id": 1, "bbox": BOX, "area": 400, "iscrowd": 0} for i, key in enumerate(ids, 1)
        ],
    }
    found = [{"image_id": i, "category_id": 1, "bbox": BOX, "score": 0.9} for i in (1, 2)]
    with open("truth.json", "w") as file:
        json.dump(truth, file)
    with contextlib.redirect_stdout(io.StringIO()):
        data = coco("truth.json")
        run = evaluator(data, data.loadRes(found), "bbox")
        run.evaluate(), run.accumulate(), run.summarize()
    return float(run.stats[0])


for ids, values in (((1, 2), (1, 1)), ((-1, -2), (1, 0))):
    seen = average_precision(COCO, COCOeval, ids), average_precision(faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster, ids)
    print(f"ids {ids[0]}, {ids[1]}: pycocotools AP {seen[0]:.3f}, faster-coco-eval AP {seen[1]:.3f}")
    assert all(abs(a - b) < 1e-6 for a, b in zip(seen, values, strict=True)), "ids are matched otherwise now"
PY
