#!/usr/bin/env bash
# mapcalc never looks at the scores of detections: the same ones have an AP of 1.0 or 0.5 according to the order in which they are listed.
#
# AP goes through the detections of a class from the surest to the least sure. mapcalc asks for `scores` and checks how many there are, then
# takes the detections as they come. A list that ends with the surest, one in the order of proposals or several images put together give an
# AP of their own, and a network whose scores are upside down has the same as one that is right about them. Nothing is said, and lists that
# a detector has sorted hide it. Sort boxes, labels and scores by falling score first.
#
# Seen with mapcalc 0.2.2, pycocotools 2.0.11, Python 3.11; ten objects, ten detections of them and ten beside them, IoU of 0.5:
# scores                        listed as         mapcalc  pycocotools
# found ones 0.9, others 0.1    found ones first  1.00     1.00
# found ones 0.9, others 0.1    others first      0.50     1.00
# found ones 0.1, others 0.9    found ones first  1.00     0.50
# found ones 0.1, others 0.9    others first      0.50     0.50
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q numpy==2.4.6 mapcalc==0.2.2 pycocotools==2.0.11
venv/bin/python - <<'PY'
import contextlib
import io

from mapcalc import calculate_map
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

COUNT, SIDE = 10, 20.0


def places(row):
    """Corners of `COUNT` boxes beside each other; row 0 holds the objects."""
    return [[30 * n, 50 * row, 30 * n + SIDE, 50 * row + SIDE] for n in range(COUNT)]


def by_pycocotools(objects, boxes, scores):
    def named(box):
        return {"image_id": 1, "category_id": 1, "bbox": [*box[:2], SIDE, SIDE]}

    annotations = [{"id": n + 1, "iscrowd": 0, "area": SIDE**2} | named(box) for n, box in enumerate(objects)]
    coco = COCO()
    coco.dataset = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": annotations}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        found = coco.loadRes([{"score": score} | named(box) for box, score in zip(boxes, scores, strict=True)])
        evaluation = COCOeval(coco, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[1]


objects, others = places(0), places(1)
print("scores                        listed as         mapcalc  pycocotools")
for high, low, right in ((0.9, 0.1, 1.0), (0.1, 0.9, 0.5)):
    parts = [(box, high) for box in objects], [(box, low) for box in others]
    for name, listed, order in (("found ones first", parts, 1.0), ("others first", parts[::-1], 0.5)):
        boxes, scores = zip(*sum(listed, []), strict=True)
        answer = {"boxes": list(boxes), "labels": [1] * len(boxes), "scores": list(scores)}
        mine = calculate_map({"boxes": objects, "labels": [1] * COUNT}, answer, 0.5)
        theirs = by_pycocotools(objects, boxes, scores)
        print(f"found ones {high}, others {low}    {name:16}  {mine:.2f}     {theirs:.2f}")
        assert abs(mine - order) < 0.01 and abs(theirs - right) < 0.01, "mapcalc takes the detections in another order now"
PY
