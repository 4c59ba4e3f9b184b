#!/usr/bin/env bash
# A mask that lies 30 pixels too low has a Hausdorff distance of 0 by miseval, and one that lies 30 pixels too far right has 6.3.
#
# "HD" of miseval hands the masks to a function that expects lists of points, so that each row of the image is taken for one point of
# as many dimensions as there are columns. Where every row of one mask is somewhere among the rows of the other, the distance is 0,
# wherever they are. The class is not looked at either: in a map of several classes, the distance is the same for each, and
# depends on their numbers. The result is in no unit. Take the Hausdorff distance of scikit-image, or of MedPy or MONAI.
#
# Seen with miseval 1.3.0, scikit-image 0.26.0, Python 3.11; a square of 40 x 40 pixels:
# prediction                     miseval   scikit-image
# exact                          0.000     0.000
# 30 pixels lower                0.000     30.000
# 30 pixels further right        6.325     30.000
# half as high                   0.000     20.000
# exact, and one pixel far away  1.000     63.640
# two classes, one of them 30 pixels further right: distances of classes 1 and 2
# number 1, right by 30          6.325 6.325
# number 2, right by 30          12.649 12.649
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q miseval==1.3.0 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 scikit-image==0.26.0 hausdorff==0.2.6 numba==0.68.1
venv/bin/python -W ignore - <<'PY'
import numpy as np
from miseval import evaluate
from skimage.metrics import hausdorff_distance


def square(row, column, height=40):
    mask = np.zeros((128, 128), dtype=int)
    mask[row : row + height, column : column + 40] = 1
    return mask


truth = square(20, 20)
stray = square(20, 20)
stray[104, 104] = 1
CASES = {
    "exact": (truth, 0),
    "30 pixels lower": (square(50, 20), 0),
    "30 pixels further right": (square(20, 50), 6.325),
    "half as high": (square(20, 20, 20), 0),
    "exact, and one pixel far away": (stray, 1),
}
print("prediction                     miseval   scikit-image")
for name, (answer, expected) in CASES.items():
    found = float(evaluate(truth, answer, metric="HD"))
    print(f"{name:30} {found:<9.3f} {hausdorff_distance(truth, answer):.3f}")
    assert abs(found - expected) < 1e-3, "rows are no points now"
print("two classes, one of them 30 pixels further right: distances of classes 1 and 2")
for moved, expected in ((1, 6.325), (2, 12.649)):
    stays, other = 3 - moved, square(80, 20)
    truths, answers = (moved * mask + stays * other for mask in (truth, square(20, 50)))
    scores = evaluate(truths, answers, metric="HD", multi_class=True, n_classes=3)[1:]
    print(f"number {moved}, right by 30          {scores[0]:.3f} {scores[1]:.3f}")
    assert np.allclose(scores, expected, atol=1e-3), "each class has a distance of its own now"
PY
