#!/usr/bin/env bash
# A YOLO folder that Datumaro turns into a COCO file numbers its objects anew in each image: a perfect detector has an AP of 0.17.
#
# Objects are numbered 0, 1, 2 in every image on reading, of YOLO and of VOC, and export from Python keeps these numbers, apart from 0, as the
# ids of the annotations. They are meant to be unique in a file: pycocotools looks objects up by id, so all images get the objects of the
# last one that has the same number. Of two COCO files that are merged the ids of the images are kept as well, and every second image is gone.
# `datum` on the command line numbers anew by itself, as its page says of --reindex; export does not, and nothing warns. Pass reindex=True.
#
# Seen with datumaro 1.13.12, pycocotools 2.0.11, Python 3.11; four images of three objects each:
# exported with  ids of the objects          known to pycocotools  AP of a perfect detector
# nothing else   1 1 1 1 2 2 2 2 2 3 4 5     5                     0.17
# reindex=True   1 2 3 4 5 6 7 8 9 10 11 12  12                    1.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q datumaro==1.13.12 numpy==2.4.6 opencv-python-headless==4.14.0.94 pandas==2.3.3 pyarrow==25.0.1
venv/bin/pip install -q pycocotools==2.0.11
venv/bin/python -W ignore - <<'PY'
import contextlib
import io
import json
from pathlib import Path

from datumaro.components.dataset import Dataset
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

for split in ("train", "val"):
    images, labels = (Path("yolo", part, split) for part in ("images", "labels"))
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (100, 100)).save(images / f"{number}.png")
        boxes = (f"0 {0.1 + 0.2 * place + 0.02 * number:.2f} {0.2 + 0.1 * number:.2f} 0.1 0.1\n" for place in range(3))
        (labels / f"{number}.txt").write_text("".join(boxes))
Path("yolo", "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat]\n")
dataset = Dataset.import_from("yolo", "yolo")

print("exported with  ids of the objects          known to pycocotools  AP of a perfect detector")
for title, options, expected in (
    ("nothing else", {}, ([1] * 4 + [2] * 5 + [3, 4, 5], 5, 0.17)),
    ("reindex=True", {"reindex": True}, (list(range(1, 13)), 12, 1.0)),
):
    dataset.export(title, "coco_instances", **options)
    file = Path(title, "annotations", "instances_val.json")
    content = json.loads(file.read_text())
    answers = [{"image_id": one["image_id"], "category_id": 1, "bbox": one["bbox"], "score": 0.9} for one in content["annotations"]]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(file)
        evaluation = COCOeval(truth, truth.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ids, score = sorted(one["id"] for one in content["annotations"]), evaluation.stats[0]
    print(f"{title:14} {' '.join(map(str, ids)):27} {len(truth.anns):<21} {score:.2f}")
    assert len({image["id"] for image in content["images"]}) == 4
    assert (ids, len(truth.anns), round(score, 2)) == expected, "objects are numbered otherwise now"
PY
