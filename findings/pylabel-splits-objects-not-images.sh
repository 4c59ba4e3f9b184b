#!/usr/bin/env bash
# Asked for 60 % of the images, pylabel puts 38 of 40 into training and one each into validation and test; as a table, the parts overlap.
#
# GroupShuffleSplit, whose groups are the images by its own group_col="img_filename", shuffles objects: every row is a group of its own,
# and group_col has no effect. Whoever takes the rows of one part has objects of the same images in all parts. The export to YOLO puts an
# image with all its objects where its first row is, which are those of training. So the more objects an image has, the smaller
# are validation and test. Split the file names yourself and write the column "split".
#
# Seen with pylabel 0.1.55, pandas 2.3.3, scikit-learn 1.9.1, Python 3.11; 40 images, asked for 60 % train, 20 % val, 20 % test:
# objects of an image  images in more than one part  images of YOLO folders: train, val, test
# 1                    0                             24 8 8
# 3                    34                            38 1 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pylabel==0.1.55 pandas==2.3.3 numpy==2.4.6 scikit-learn==1.9.1 opencv-python==5.0.0.93 bbox-visualizer==1.0.1
venv/bin/python -W ignore - 2>/dev/null <<'PY'
import json
from pathlib import Path

from pylabel import importer

IMAGES = 40
print("objects of an image  images in more than one part  images of YOLO folders: train, val, test")
for objects, mixed, expected in ((1, 0, [24, 8, 8]), (3, 34, [38, 1, 1])):
    images = [{"id": number, "file_name": f"{number}.png", "width": 100, "height": 100} for number in range(IMAGES)]
    rows = [(number, one) for number in range(IMAGES) for one in range(objects)]
    annotations = [
        {"id": place, "image_id": number, "category_id": 0, "bbox": [30 * one, 10, 20, 20], "area": 400, "iscrowd": 0, "segmentation": []}
        for place, (number, one) in enumerate(rows)
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 0, "name": "cat", "supercategory": ""}]}
    Path("data.json").write_text(json.dumps(content))
    dataset = importer.ImportCoco("data.json")
    dataset.splitter.GroupShuffleSplit(train_pct=0.6, test_pct=0.2, val_pct=0.2, group_col="img_filename", random_state=0)
    several = int((dataset.df.groupby("img_filename").split.nunique() > 1).sum())
    root = Path(f"of_{objects}")
    dataset.export.ExportToYoloV5(output_path=str(root / "labels"), use_splits=True)
    counts = [len(list((root / "labels" / part).glob("*.txt"))) for part in ("train", "val", "test")]
    print(f"{objects:<20} {several:<29} {' '.join(map(str, counts))}")
    assert several == mixed and counts == expected, "images are split otherwise now"
PY
