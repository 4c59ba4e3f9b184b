#!/usr/bin/env bash
# The same folders have other class numbers in timm than in torchvision: class2 comes before class10 in one, and after it in the other.
#
# torchvision's ImageFolder sorts the names of the classes as text, as most readers of such folders do. timm takes digits in a name for a
# number and small and capital letters for the same. Weights that were trained with one and scored with the other are right in the classes
# that keep their place: 1 of 12 here. Folders 0 to 9 and the names of ImageNet, of equally many digits, give both the same numbers, so
# that a first test finds nothing. Hand on the names of the classes with the weights; timm takes class_map=, a file of them.
#
# Seen with timm 1.0.31, torchvision 0.28.0, Python 3.11; class number of some folders, and how many have the same number in both:
# folders              timm                      torchvision               same
# class1 to class12    class2: 1, class10: 9     class2: 4, class10: 1     1 of 12
# bird, Cat, dog       bird: 0, Cat: 1, dog: 2   bird: 1, Cat: 0, dog: 2   1 of 3
# 0 to 9               2: 2, 9: 9                2: 2, 9: 9                10 of 10
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 pyyaml==6.0.3 huggingface_hub==2.4.0 safetensors==0.8.0 pillow==13.0.0
venv/bin/pip install -q --no-deps timm==1.0.31 torchvision==0.28.0
venv/bin/python -W ignore - <<'PY'
from pathlib import Path

import torch
from PIL import Image

# PyPI's torchvision looks for CUDA; timm needs none of what it then lacks
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from timm.data import create_dataset
from torchvision.datasets import ImageFolder

CASES = (
    ("class1 to class12", [f"class{number}" for number in range(1, 13)], ("class2", "class10"), 1),
    ("bird, Cat, dog", ["bird", "Cat", "dog"], ("bird", "Cat", "dog"), 1),
    ("0 to 9", [str(number) for number in range(10)], ("2", "9"), 10),
)
print("folders              timm                      torchvision               same")
for title, names, shown, expected in CASES:
    root = Path(title)
    for name in names:
        (root / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(root / name / "image.png")
    readers = create_dataset("", root=str(root)).reader.class_to_idx, ImageFolder(str(root)).class_to_idx
    cells = [", ".join(f"{name}: {numbers[name]}" for name in shown) for numbers in readers]
    same = sum(readers[0][name] == readers[1][name] for name in names)
    print(f"{title:20} {cells[0]:25} {cells[1]:25} {same} of {len(names)}")
    assert same == expected, "classes are numbered otherwise now"
PY
