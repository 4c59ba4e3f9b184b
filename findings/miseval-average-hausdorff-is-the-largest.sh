#!/usr/bin/env bash
# The average Hausdorff distance that miseval computes is the largest distance, not the average: one stray pixel makes 63 of 0.4.
#
# The average of the distances from each border to the other is what one takes since it forgives single pixels, and miseval's own guide
# recommends it, "AHD", for outlines. Its function takes the maximum over both borders, which is the Hausdorff distance. It is a
# number of the right size, 0 for equal masks, so nothing looks wrong; networks are ranked by their worst pixel, and numbers beside
# those of other papers are several times too large. Take the mean of the distances yourself, or monai's average surface distance.
#
# Seen with miseval 1.3.0, SciPy 1.17.1, Python 3.11; a square of 40 x 40 pixels, the definition after Taha and Hanbury:
# prediction                     miseval's AHD   largest distance   average distance
# exact                          0.000           0.000              0.000
# moved by 3                     3.000           3.000              1.500
# exact, and one pixel far away  63.640          63.640             0.405
# one pixel smaller all around   1.414           1.414              1.011
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q miseval==1.3.0 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 scikit-image==0.26.0 hausdorff==0.2.6 numba==0.68.1
venv/bin/python -W ignore - <<'PY'
import numpy as np
from miseval import evaluate
from scipy.ndimage import binary_erosion, distance_transform_edt


def square(row, column, side=40):
    mask = np.zeros((128, 128), dtype=int)
    mask[row : row + side, column : column + side] = 1
    return mask


def distances(one, other):
    """Return how far each border pixel of one mask is from the border of the other."""
    border, others = (mask & ~binary_erosion(mask) for mask in (one == 1, other == 1))
    return distance_transform_edt(~others)[border]


truth = square(20, 20)
stray = square(20, 20)
stray[104, 104] = 1
CASES = {
    "exact": truth,
    "moved by 3": square(23, 20),
    "exact, and one pixel far away": stray,
    "one pixel smaller all around": square(21, 21, 38),
}
print("prediction                     miseval's AHD   largest distance   average distance")
for name, answer in CASES.items():
    both = distances(truth, answer), distances(answer, truth)
    found = float(evaluate(truth, answer, metric="AHD"))
    largest, average = max(part.max() for part in both), max(part.mean() for part in both)
    print(f"{name:30} {found:<15.3f} {largest:<18.3f} {average:.3f}")
    assert abs(found - largest) < 1e-6, "the average is an average now"
PY
