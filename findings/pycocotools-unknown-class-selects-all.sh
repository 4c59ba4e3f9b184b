#!/usr/bin/env bash
# A class that a COCO file does not have selects everything in pycocotools: a set of "Cat" holds all images, and all objects of each.
#
# getCatIds of a name that is misspelt, of other case or of another data set gives no ids and no error. Handed on to getImgIds or
# getAnnIds, no ids mean no condition, so the usual two lines for a set of one class return the whole file, and a detector of cats learns
# dogs as cats. Beside another condition it is the same: getAnnIds(imgIds=7, catIds=[]) are all objects of image 7. Of more classes than
# one, one that is not there is left out without a word. Compare the number of ids with the number of names.
#
# Seen with pycocotools 2.0.11, Python 3.11; 4 images with one cat, 6 with one dog, 1 of both:
# asked for         ids      images  objects  objects in image 10
# cat               [1]      5       5        1
# Cat               []       11      12       2
# bird              []       11      12       2
# cat, bird         [1]      5       5        1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pycocotools==2.0.11 numpy==2.4.6
venv/bin/python -W error - <<'PY'
import contextlib
import io
import json

from pycocotools.coco import COCO

shown = [[1]] * 4 + [[2]] * 6 + [[1, 2]]  # the classes of every image
objects = [(image, kind) for image, kinds in enumerate(shown) for kind in kinds]
content = {
    "images": [{"id": image, "file_name": f"{image}.jpg", "width": 100, "height": 60} for image in range(len(shown))],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": 1 + place, "image_id": image, "category_id": kind, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
        for place, (image, kind) in enumerate(objects)
    ],
}
with open("all.json", "w") as file:
    json.dump(content, file)
with contextlib.redirect_stdout(io.StringIO()):
    data = COCO("all.json")

CASES = {"cat": ([1], 5, 5, 1), "Cat": ([], 11, 12, 2), "bird": ([], 11, 12, 2), "cat, bird": ([1], 5, 5, 1)}
print("asked for         ids      images  objects  objects in image 10")
for names, expected in CASES.items():
    ids = data.getCatIds(catNms=names.split(", "))
    images, found = data.getImgIds(catIds=ids), data.getAnnIds(catIds=ids)
    inside = data.getAnnIds(imgIds=10, catIds=ids)
    seen = ids, len(images), len(found), len(inside)
    print(f"{names:17} {ids!s:8} {seen[1]:<7} {seen[2]:<8} {seen[3]}")
    assert seen == expected, "unknown classes select otherwise now"
PY
