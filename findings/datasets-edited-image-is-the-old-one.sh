#!/usr/bin/env bash
# Faces that Dataset.map blackens in place are there again in its result: Hugging Face datasets stores where the file is, not the image.
#
# What Pillow opened from a file knows its file name, and draw, paste, thumbnail and putpixel change it without losing the name. datasets
# takes an image with a name for that file, so the edit is thrown away, without a word, and map ends as if it had worked. It works where
# the images come as bytes, as from Parquet, and where Pillow's call returns a new image (crop, resize, convert, copy). from_dict does the
# same with images of your own. Edit image.copy().
#
# Seen with datasets 5.0.1, Pillow 13.0.0, Python 3.11; a grey image of 64 x 48:
# comes from    edited by                 in the result
# a file        drawing on it             64 x 48, grey
# a file        drawing on its copy       64 x 48, black
# bytes         drawing on it             64 x 48, black
# Image.open    thumbnail((16, 12))       64 x 48, grey
# Image.open    resize((16, 12))          16 x 12, grey
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q datasets==5.0.1 pyarrow==25.0.1 pillow==13.0.0 numpy==2.4.6
export HF_HOME="$work/home" HF_HUB_OFFLINE=1
venv/bin/python -W ignore - <<'PY'
from pathlib import Path

import datasets
from PIL import Image, ImageDraw

datasets.disable_progress_bars()
Image.new("RGB", (64, 48), "grey").save("image.png")


def blacken(image):
    ImageDraw.Draw(image).rectangle((0, 0, 64, 48), fill="black")
    return image


def mapped(stored, edit):
    data = datasets.Dataset.from_dict({"image": [stored]}).cast_column("image", datasets.Image())
    return data.map(lambda row: {"image": edit(row["image"])})


def shrunk(way):
    image = Image.open("image.png")
    return datasets.Dataset.from_dict({"image": [way(image) or image]})


raw = {"bytes": Path("image.png").read_bytes(), "path": None}
CASES = [
    ("a file", "drawing on it", mapped("image.png", blacken), "64 x 48, grey"),
    ("a file", "drawing on its copy", mapped("image.png", lambda image: blacken(image.copy())), "64 x 48, black"),
    ("bytes", "drawing on it", mapped(raw, blacken), "64 x 48, black"),
    ("Image.open", "thumbnail((16, 12))", shrunk(lambda image: image.thumbnail((16, 12))), "64 x 48, grey"),
    ("Image.open", "resize((16, 12))", shrunk(lambda image: image.resize((16, 12))), "16 x 12, grey"),
]
print("comes from    edited by                 in the result")
for source, edit, data, expected in CASES:
    image = data[0]["image"]
    colour = {(0, 0, 0): "black", (128, 128, 128): "grey"}[image.getpixel((8, 6))]
    seen = f"{image.width} x {image.height}, {colour}"
    print(f"{source:13} {edit:25} {seen}")
    assert seen == expected, "edited images are stored otherwise now"
PY
