#!/usr/bin/env bash
# A crowd of COCO, one region of many people, becomes one object as large as the region in three converters, in COCO files as well.
#
# iscrowd: 1 says that a region is neither to be learnt nor to be found. YOLO has no word for it, so one expects such entries to be left out
# there, and kept where COCO is read and written again. globox and SAHI write it as an object with iscrowd 0, supervision and both of them
# as a line of a YOLO file. A detector learns half of the image as one person, and is counted wrong for not finding it; in COCO that
# is one object in a hundred. Take crowds out before converting.
#
# Seen with globox 2.9.0, sahi 0.12.8, supervision 0.31.2, Python 3.11; a person, and a crowd over the whole image:
# read and written by        entries  crowds
# COCO, as read              2        1
# COCO by globox             2        0
# COCO by SAHI               2        0
# COCO by supervision        2        1
# YOLO by globox             2        -
# YOLO by SAHI               2        -
# YOLO by supervision        2        -
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q globox==2.9.0 sahi==0.12.8 supervision==0.31.2 numpy==2.4.6
venv/bin/python -W ignore - 2>/dev/null <<'PY'
import json
import logging
from pathlib import Path

import globox
import supervision
from PIL import Image
from sahi.utils.coco import Coco

logging.disable()
Image.new("RGB", (100, 60)).save("image.png")
person = {"id": 1, "category_id": 0, "bbox": [10, 10, 20, 30], "area": 600, "iscrowd": 0}
person["segmentation"] = [[10, 10, 30, 10, 30, 40, 10, 40]]
crowd = {"id": 2, "category_id": 0, "bbox": [0, 0, 100, 60], "area": 6000, "iscrowd": 1}
crowd["segmentation"] = {"size": [60, 100], "counts": [0, 6000]}
content = {
    "images": [{"id": 1, "file_name": "image.png", "width": 100, "height": 60}],
    "categories": [{"id": 0, "name": "person"}],
    "annotations": [{**entry, "image_id": 1} for entry in (person, crowd)],
}
Path("read.json").write_text(json.dumps(content))

by_globox = globox.AnnotationSet.from_coco("read.json")
by_globox.save_coco("globox.json")
by_globox.save_yolo_v5("globox", label_to_id={"person": 0})
by_sahi = Coco.from_coco_dict_or_path("read.json", image_dir=".")
by_sahi.export_as_yolo("sahi", train_split_rate=1.0)
by_supervision = supervision.DetectionDataset.from_coco(".", "read.json")
by_supervision.as_coco(annotations_path="supervision.json")
by_supervision.as_yolo(annotations_directory_path="supervision")
CASES = {
    "COCO, as read": (content, 1),
    "COCO by globox": (json.loads(Path("globox.json").read_text()), 0),
    "COCO by SAHI": (by_sahi.json, 0),
    "COCO by supervision": (json.loads(Path("supervision.json").read_text()), 1),
    "YOLO by globox": (Path("globox/image.txt"), "-"),
    "YOLO by SAHI": (Path("sahi/train/image.txt"), "-"),
    "YOLO by supervision": (Path("supervision/image.txt"), "-"),
}
print("read and written by        entries  crowds")
for name, (written, expected) in CASES.items():
    if isinstance(written, Path):
        entries, crowds = len(written.read_text().splitlines()), "-"
    else:
        entries, crowds = len(written["annotations"]), sum(entry["iscrowd"] for entry in written["annotations"])
    print(f"{name:26} {entries:<8} {crowds}")
    assert (entries, crowds) == (2, expected), "crowds are converted otherwise now"
PY
