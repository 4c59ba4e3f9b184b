#!/usr/bin/env bash
# The same class has number 0 in the training folder and number 1 in the validation folder that pylabel turns from VOC into YOLO.
#
# VOC files have names of classes and no list of them. pylabel numbers the names in the order in which they come, file by file as the file
# system lists them, and each folder by itself. A network that trains on one folder and is scored on the other is wrong wherever it is
# right, although every file is sound; a copy of the folder may have other numbers again. Images without objects are not in the table at
# all. Read all folders as one and split then, or number the names yourself.
#
# Seen with pylabel 0.1.55, pandas 2.3.3, Python 3.11; the first file of training begins with a cat, that of validation with a dog:
# folder  numbers of YOLO  names in its YAML file  images  label files
# train   cat 0, dog 1     cat dog                 2       1
# val     dog 0, cat 1     dog cat                 2       1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pylabel==0.1.55 pandas==2.3.3 numpy==2.4.6 scikit-learn==1.9.1 opencv-python==5.0.0.93 bbox-visualizer==1.0.1 pyyaml==6.0.3
venv/bin/python -W ignore - 2>/dev/null <<'PY'
from pathlib import Path

import yaml
from pylabel import importer

FILE = "<annotation><filename>{}.png</filename><size><width>100</width><height>100</height><depth>3</depth></size>{}</annotation>"
THING = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>5</ymin><xmax>{}</xmax><ymax>30</ymax></bndbox></object>"
LEFT = {"cat": 10, "dog": 60}

print("folder  numbers of YOLO  names in its YAML file  images  label files")
for folder, names in (("train", ["cat", "dog"]), ("val", ["dog", "cat"])):
    Path("voc", folder).mkdir(parents=True)
    things = "".join(THING.format(name, LEFT[name], LEFT[name] + 20) for name in names)
    for image, content in (("full", things), ("empty", "")):
        Path("voc", folder, f"{image}.xml").write_text(FILE.format(image, content))
    dataset = importer.ImportVOC(f"voc/{folder}")
    written = dataset.export.ExportToYoloV5(output_path=f"yolo/{folder}/labels")
    (label_file,) = Path("yolo", folder, "labels").glob("*.txt")
    numbers = {}
    for line in label_file.read_text().splitlines():
        number, middle = line.split()[:2]
        numbers["cat" if float(middle) < 0.5 else "dog"] = int(number)
    told = yaml.safe_load(Path(written[0]).read_text())["names"]
    shown = ", ".join(f"{name} {number}" for name, number in numbers.items())
    print(f"{folder:7} {shown:16} {' '.join(told):23} 2       {len(written) - 1}")
    assert told == names and numbers == {names[0]: 0, names[1]: 1} and len(written) == 2, "classes are numbered otherwise now"
PY
