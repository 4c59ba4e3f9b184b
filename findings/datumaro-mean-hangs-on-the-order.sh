#!/usr/bin/env bash
# Two black images and a white one have a mean of 64 by Datumaro, and of 128 if the white one is first: it is 85.
#
# mean_std and compute_image_statistics give what a network subtracts from its images and divides by. They halve the list again and again,
# and take the mean of two halves as the middle between them, however many images, or pixels, each half has. Of three images the first counts
# as much as the other two together, and a small image as much as one a hundred times its size; only with 2, 4, 8 ... images of one size
# is the mean right. What it calls itself is "unbiased", and the rule that its source names gives each half its weight. Compute it yourself.
#
# Seen with datumaro 1.13.12, Python 3.11; grey levels of images of one colour:
# images                          Datumaro  right
# 0, 0, 255 of 8 x 8              63.8      85.0
# 255, 0, 0 of 8 x 8              127.5     85.0
# 0, 0, 0, 255 of 8 x 8           63.8      63.8
# 0 of 8 x 8, 255 of 80 x 80      127.5     252.5
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q datumaro==1.13.12 numpy==2.4.6 opencv-python-headless==4.14.0.94 pandas==2.3.3 pyarrow==25.0.1
venv/bin/python -W ignore - <<'PY'
import numpy as np
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image
from datumaro.components.operations import compute_image_statistics, mean_std

CASES = {
    "0, 0, 255 of 8 x 8": ((0, 0, 255), (8, 8, 8), 63.75),
    "255, 0, 0 of 8 x 8": ((255, 0, 0), (8, 8, 8), 127.5),
    "0, 0, 0, 255 of 8 x 8": ((0, 0, 0, 255), (8, 8, 8, 8), 63.75),
    "0 of 8 x 8, 255 of 80 x 80": ((0, 255), (8, 80), 127.5),
}
print("images                          Datumaro  right")
for title, (levels, sides, expected) in CASES.items():
    images = [np.full((side, side, 3), level, dtype=np.uint8) for level, side in zip(levels, sides)]
    items = [DatasetItem(id=str(place), media=Image.from_numpy(image)) for place, image in enumerate(images)]
    dataset = Dataset.from_iterable(items, media_type=Image)
    mean = mean_std(dataset)[0][0]
    assert compute_image_statistics(dataset)["subsets"]["default"]["image mean (RGB)"][0] == mean
    right = np.concatenate([image.ravel() for image in images]).mean()
    print(f"{title:31} {mean:<9.1f} {right:.1f}")
    assert mean == expected, "means are taken otherwise now"
PY
