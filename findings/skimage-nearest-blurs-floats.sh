#!/usr/bin/env bash
# A label map that scikit-image shrinks with order=0, nearest, keeps its classes as whole numbers, and gets others as floats: it is blurred.
#
# resize and rescale smooth before they shrink, unless told otherwise, and leave it out for booleans, and for whole numbers of order 0. The
# same map as float32 or float64, which is what nibabel's get_fdata and many readers of TIFF return, is smoothed, and then its "nearest"
# pixels are taken: class 3 appears between 1 and 4, and the map has seven values. The documentation says so for whole
# numbers only in passing, and the edges of all objects are what is lost. Pass anti_aliasing=False for labels, or convert them first.
#
# Seen with scikit-image 0.26.0, NumPy 2.4.6, Python 3.11; stripes of 0, 1 and 4, from 64 x 64 to 32 x 32 (preserve_range=True):
# labels as                         values  classes as whole numbers
# uint8                             3       0 1 4
# int64                             3       0 1 4
# float32                           7       0 1 3 4
# float64                           7       0 1 3 4
# float64, anti_aliasing=False      3       0 1 4
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q scikit-image==0.26.0 scipy==1.17.1 pillow==13.0.0 numpy==2.4.6
venv/bin/python -W error - <<'PY'
import numpy as np
from skimage.transform import resize

labels = np.zeros((64, 64), dtype=np.uint8)
labels[:, 20:40] = 1
labels[:, 40:] = 4
CASES = [(kind, {}) for kind in ("uint8", "int64", "float32", "float64")] + [("float64", {"anti_aliasing": False})]
print("labels as                         values  classes as whole numbers")
for kind, options in CASES:
    small = resize(labels.astype(kind), (32, 32), order=0, preserve_range=True, **options)
    values, classes = np.unique(small), np.unique(small.astype(int)).tolist()
    print(f"{kind + ', anti_aliasing=False' * bool(options):33} {len(values):<7} {' '.join(map(str, classes))}")
    blurred = kind.startswith("float") and not options
    assert (len(values), classes) == ((7, [0, 1, 3, 4]) if blurred else (3, [0, 1, 4])), "labels are shrunk otherwise now"
PY
