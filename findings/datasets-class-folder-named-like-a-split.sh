#!/usr/bin/env bash
# A class whose folder has "test" in its name, such as test_tube, takes the place of the data set: the images of all other classes are gone.
#
# The image folders of Hugging Face's datasets need no train/ and test/: class folders alone are one train split. But words such as train,
# valid, dev, eval and test are looked for in the name of every folder, set off by _, -, a blank or a digit. One class with such
# a word makes all the rest no part of any split, and the labels go with it. Below train/ and test/ it is worse: the training images
# of that class are in the test split as well. Nothing is said but the numbers of images. Take whole names for splits, at the top only.
#
# Seen with datasets 5.2.0, Python 3.11; three images in each folder:
# beaker, flask:                 train: beaker 3, flask 3
# test_tube, flask:              test: 3 without labels
# both in train/ and in test/:   train: flask 3, test_tube 3   test: flask 3, test_tube 9   in both: 3
# the same with beaker, flask:   train: beaker 3, flask 3   test: beaker 3, flask 3   in both: 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
HF_HUB_OFFLINE=1 HF_HOME="$work/home" venv/bin/python -W ignore - <<'PY'
import os
from collections import Counter

from datasets import Image as Column
from datasets import disable_progress_bars, load_dataset
from PIL import Image

disable_progress_bars()


def read(folders):
    """Write three images into each folder; return what is counted in each split, and the paths."""
    root = "data/" + "_".join(folders).replace("/", ".")
    for folder in folders:
        os.makedirs(f"{root}/{folder}")
        for number in range(3):
            Image.new("L", (4, 4), number).save(f"{root}/{folder}/{number}.png")
    counts, paths = {}, {}
    for split, rows in load_dataset("imagefolder", data_dir=root).items():
        names = rows.features["label"].names if "label" in rows.features else ()
        labels = Counter(names[label] for label in rows["label"]) if names else {}
        counts[split] = ", ".join(f"{name} {labels[name]}" for name in names) or f"{len(rows)} without labels"
        paths[split] = {row["path"] for row in rows.cast_column("image", Column(decode=False))["image"]}
    return counts, paths


def in_splits(*names):
    return [f"{split}/{name}" for split in ("train", "test") for name in names]


PLAIN = "beaker 3, flask 3"
CASES = (
    ("beaker, flask:", ["beaker", "flask"], {"train": PLAIN}, 0),
    ("test_tube, flask:", ["test_tube", "flask"], {"test": "3 without labels"}, 0),
    (
        "both in train/ and in test/:", in_splits("test_tube", "flask"),
        {"train": "flask 3, test_tube 3", "test": "flask 3, test_tube 9"}, 3,
    ),
    ("the same with beaker, flask:", in_splits("beaker", "flask"), {"train": PLAIN, "test": PLAIN}, 0),
)
for name, folders, expected, shared in CASES:
    counts, paths = read(folders)
    told = "   ".join(f"{split}: {counts[split]}" for split in ("train", "test") if split in counts)
    both = paths["train"] & paths["test"] if len(paths) == 2 else set()
    print(f"{name:30} {told}" + (f"   in both: {len(both)}" if len(paths) == 2 else ""))
    assert counts == expected and len(both) == shared, "splits are told otherwise now"
PY
