#!/usr/bin/env bash
# "At most 100 detections per image" is what COCO's AP is said to count; it counts 100 per image and class, here 300 in one image.
#
# The number is maxDets, and the tables that evaluators print call it so. Detections are sorted and cut for every class by itself. Who cuts
# an image's answers to the 100 surest beforehand, as many detectors do, throws away what would have counted; with 80 classes 8000 may.
# The same 300 objects as one class lose 200. So AP of crowded images depends on how finely classes are told apart, and a cut over all
# classes (LVIS has one, of 300) is another protocol. Say which cut was made, and where.
#
# Seen with pycocotools 2.0.11, faster-coco-eval 1.8.0, Python 3.11; 300 objects in one image, all found:
# 3 classes, all 300 answers:      pycocotools AP 1.000, faster-coco-eval AP 1.000
# 3 classes, the 100 surest:       pycocotools AP 0.333, faster-coco-eval AP 0.333
# 1 class, all 300 answers:        pycocotools AP 0.337, faster-coco-eval AP 0.337
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
import logging

import faster_coco_eval
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

logging.disable(logging.INFO)
SIDE = 20  # objects in a row


def average_precision(coco, evaluator, *, classes, most):
    """AP of the `most` surest of 300 right answers, where the first class is the surest."""
    boxes = [[n % SIDE * 50, n // SIDE * 50, 40, 40] for n in range(300)]
    objects = [
        {"id": n + 1, "image_id": 1, "category_id": n * classes // 300 + 1, "bbox": box, "area": 1600, "iscrowd": 0}
        for n, box in enumerate(boxes)
    ]
    categories = [{"id": number + 1, "name": str(number)} for number in range(classes)]
    with open("truth.json", "w") as file:
        json.dump({"images": [{"id": 1, "width": 1000, "height": 1000}], "categories": categories, "annotations": objects}, file)
    found = [
        {"image_id": 1, "category_id": thing["category_id"], "bbox": thing["bbox"], "score": 1 - thing["id"] / 1000} for thing in objects
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco("truth.json")
        run = evaluator(truth, truth.loadRes(found[:most]), "bbox")
        run.evaluate(), run.accumulate(), run.summarize()
    return float(run.stats[0])


CASES = (
    ("3 classes, all 300 answers:", 3, 300, 1),
    ("3 classes, the 100 surest:", 3, 100, 1 / 3),
    ("1 class, all 300 answers:", 1, 300, 34 / 101),
)
for name, classes, most, expected in CASES:
    first = average_precision(COCO, COCOeval, classes=classes, most=most)
    second = average_precision(faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster, classes=classes, most=most)
    print(f"{name:32} pycocotools AP {first:.3f}, faster-coco-eval AP {second:.3f}")
    assert abs(first - expected) < 1e-6 and abs(second - expected) < 1e-6, "detections are cut otherwise now"
PY
