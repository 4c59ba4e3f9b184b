#!/usr/bin/env bash
# Behind every image without objects, pylabel writes the object before it into a COCO file once more: a perfect detector has an AP of 0.60.
#
# The annotation of the row before is still at hand when an image has none, and is added again with its image and its id. So a data set
# with backgrounds has objects twice: a detector that finds each once misses the second, and training counts them twice. The number of
# images is right, and nothing is said. (A file that begins with such an image is an error.) Drop annotations whose id was there before.
#
# Seen with pylabel 0.1.55, pandas 2.3.3, pycocotools 2.0.11, Python 3.11; three objects in images 1 and 3, none in images 2 and 4:
# COCO file         ids             AP of a perfect detector
# that was read     1 2 3           1.00
# that was written  0 1 1 3 3       0.60
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pylabel==0.1.55 pandas==2.3.3 numpy==2.4.6 scikit-learn==1.9.1 opencv-python==5.0.0.93 bbox-visualizer==1.0.1
venv/bin/pip install -q pycocotools==2.0.11
venv/bin/python -W ignore - 2>/dev/null <<'PY'
import contextlib
import io
import json

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pylabel import importer

images = [{"id": number, "file_name": f"{number}.png", "width": 100, "height": 100} for number in (1, 2, 3, 4)]
annotations = [
    {"id": number, "image_id": image, "category_id": 1, "bbox": [25 * number, 10, 20, 20], "area": 400, "iscrowd": 0, "segmentation": []}
    for number, image in ((1, 1), (2, 1), (3, 3))
]
categories = [{"id": 1, "name": "cat", "supercategory": ""}]
with open("read.json", "w") as file:
    json.dump({"images": images, "annotations": annotations, "categories": categories}, file)
importer.ImportCoco("read.json").export.ExportToCoco("written.json")
answers = [{"image_id": one["image_id"], "category_id": 1, "bbox": one["bbox"], "score": 0.9} for one in annotations]

print("COCO file         ids             AP of a perfect detector")
for title, name, expected in (("that was read", "read.json", [1, 2, 3]), ("that was written", "written.json", [0, 1, 1, 3, 3])):
    with open(name) as file:
        content = json.load(file)
    ids = [one["id"] for one in content["annotations"]]
    for place, one in enumerate(content["annotations"], start=1):
        one["id"] = place  # an object of id 0 is never found
    with open("scored.json", "w") as file:
        json.dump(content, file)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO("scored.json")
        evaluation = COCOeval(truth, truth.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    print(f"{title:17} {' '.join(map(str, ids)):15} {evaluation.stats[0]:.2f}")
    assert len(content["images"]) == 4 and ids == expected, "images without objects are written otherwise now"
    assert abs(evaluation.stats[0] - (1 if name == "read.json" else 61 / 101)) < 1e-6
PY
