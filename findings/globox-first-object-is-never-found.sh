#!/usr/bin/env bash
# The first object of a COCO file that globox wrote can never be found: a perfect detector of two objects has an AP of 0.25.
#
# globox numbers annotations from 0, as Python counts; Label Studio's converter (label-studio-sdk 2.1.2) does too. COCO's evaluation notes
# for every detection the id of the object that it matched, and 0 stands for none: whatever finds object 0 is a false alarm, and the
# object is missed. Among thousands of objects it costs little, in a small test set or a rare class much. faster-coco-eval has taken it
# over. COCO's own files have no object 0, so that nothing shows it. Number annotations from 1.
#
# Seen with globox 2.9.0, pycocotools 2.0.11, faster-coco-eval 1.8.0, Python 3.11; two objects of one class, found exactly:
# written by        ids   pycocotools AP  faster-coco-eval AP
# COCO, as read     1, 2  1.000           1.000
# globox            0, 1  0.252           0.252
# the same, from 1  1, 2  1.000           1.000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q globox==2.9.0 pycocotools==2.0.11 faster-coco-eval==1.8.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import contextlib
import io
import json
import logging
from pathlib import Path

from faster_coco_eval import COCO as FasterCOCO
from faster_coco_eval import COCOeval_faster
from globox import AnnotationSet
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

logging.disable()
BOXES = [[10, 10, 20, 20], [50, 10, 20, 20]]


def average_precision(content, data, evaluation):
    """AP of answers that equal the objects."""
    Path("truth.json").write_text(json.dumps(content))
    kept = ("image_id", "category_id", "bbox")
    answers = [{**{key: entry[key] for key in kept}, "score": 0.9} for entry in content["annotations"]]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = data("truth.json")
        run = evaluation(truth, truth.loadRes(answers), "bbox")
        run.evaluate(), run.accumulate(), run.summarize()
    return round(float(run.stats[0]), 3)


objects = [
    {"id": 1 + place, "image_id": 1, "category_id": 1, "bbox": box, "area": 400, "iscrowd": 0, "segmentation": []}
    for place, box in enumerate(BOXES)
]
images = [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 60}]
read = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": objects}
Path("read.json").write_text(json.dumps(read))
AnnotationSet.from_coco("read.json").save_coco("written.json", auto_ids=True)
written = json.loads(Path("written.json").read_text())
mended = {**written, "annotations": [{**entry, "id": entry["id"] + 1} for entry in written["annotations"]]}
CASES = {"COCO, as read": (read, 1.0), "globox": (written, 0.252), "the same, from 1": (mended, 1.0)}
print("written by        ids   pycocotools AP  faster-coco-eval AP")
for name, (content, expected) in CASES.items():
    ids = ", ".join(str(entry["id"]) for entry in content["annotations"])
    seen = average_precision(content, COCO, COCOeval), average_precision(content, FasterCOCO, COCOeval_faster)
    print(f"{name:17} {ids:5} {seen[0]:<15.3f} {seen[1]:.3f}")
    assert seen == (expected, expected), "objects are numbered or counted otherwise now"
PY
