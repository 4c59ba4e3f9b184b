#!/usr/bin/env bash
# A COCO file that SAHI turns into a YOLO folder, whose categories count from 1, comes out with every class under the name of the next.
#
# COCO's ids begin with 1 and have gaps; YOLO's numbers are places in the list of names. sahi coco yolo, and Coco.export_as_yolo behind it,
# write the ids as they are, and the names of the categories without them. Cats are trained on as dogs then. Where the last class is not
# among the images, no number is out of range, and nobody complains. Give the categories ids from 0 on first (the argument
# remapping_dict of Coco.from_coco_dict_or_path), or read COCO files as they are.
#
# Seen with sahi 0.12.8, Python 3.11; one image with a cat and a dog, names by the written data.yml:
# ids of cat, dog, bird  names             the cat is          the dog is
# 1, 2, 3                cat, dog, bird    1, that is dog      2, that is bird
# 0, 1, 2                cat, dog, bird    0, that is cat      1, that is dog
# 17, 18, 16             cat, dog, bird    17, of no name      18, of no name
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q sahi==0.12.8 numpy==2.4.6
venv/bin/python - <<'PY'
import contextlib
import io
import json
import logging
from pathlib import Path

import yaml
from PIL import Image
from sahi.utils.coco import Coco

logging.disable()
NAMES = ["cat", "dog", "bird"]
Image.new("RGB", (100, 60)).save("image.png")


def told(number, names):
    return f"{number}, that is {names[number]}" if number < len(names) else f"{number}, of no name"


EXPECTED = {(1, 2, 3): ["dog", "bird"], (0, 1, 2): ["cat", "dog"], (17, 18, 16): [None, None]}
print("ids of cat, dog, bird  names             the cat is          the dog is")
for ids, expected in EXPECTED.items():
    boxes = [[10, 10, 20, 20], [50, 10, 20, 20]]
    objects = [
        {"id": 1 + place, "image_id": 1, "category_id": ids[place], "bbox": box, "area": 400, "iscrowd": 0, "segmentation": []}
        for place, box in enumerate(boxes)
    ]
    content = {
        "images": [{"id": 1, "file_name": "image.png", "width": 100, "height": 60}],
        "categories": [{"id": id, "name": name} for id, name in zip(ids, NAMES)],
        "annotations": objects,
    }
    Path("coco.json").write_text(json.dumps(content))
    folder = Path(f"yolo{ids[0]}")
    with contextlib.redirect_stderr(io.StringIO()):
        Coco.from_coco_dict_or_path("coco.json", image_dir=".").export_as_yolo(str(folder), train_split_rate=1.0)
    names = yaml.safe_load((folder / "data.yml").read_text())["names"]
    numbers = [int(line.split()[0]) for line in (folder / "train" / "image.txt").read_text().splitlines()]
    cat, dog = (told(number, names) for number in numbers)
    print(f"{', '.join(map(str, ids)):22} {', '.join(names):17} {cat:19} {dog}")
    seen = [names[number] if number < len(names) else None for number in numbers]
    assert names == NAMES and seen == expected, "classes are numbered otherwise now"
PY
