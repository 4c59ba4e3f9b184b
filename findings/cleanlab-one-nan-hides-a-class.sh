#!/usr/bin/env bash
# One image whose predictions are NaN hides from cleanlab every wrong label of the images of one class, and is itself found in order.
#
# cleanlab looks for images that a network puts into another class than their label, as surely as it does the images of that class: the
# mean of their probabilities. One NaN, of a network that overflowed in float16 on a single image, makes that mean NaN; nothing is as sure as
# NaN, so no image is ever said to belong to that class. The predictions are checked for being between 0 and 1, which NaN passes. The answer
# looks as usual, only shorter. Look for NaN before, or take filter_by="predicted_neq_given", which does not use the means.
#
# Seen with cleanlab 2.9.0, Python 3.11; 300 images of 3 classes, 20 labels made wrong; found, by the class in the image:
# wrong labels                        7 9 4
# all predictions fine                7 9 4
# NaN for one image of class 0        0 9 4
# NaN for one image of class 1        7 0 4
# the same, predicted_neq_given       7 9 4
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q cleanlab==2.9.0 scikit-learn==1.9.1 pandas==3.1.1 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
from cleanlab.filter import find_label_issues

state = np.random.RandomState(0)
truth = state.randint(0, 3, 300)
probabilities = np.full((300, 3), 0.05)
probabilities[np.arange(300), truth] = 0.9
wrong = state.choice(300, 20, replace=False)
labels = truth.copy()
labels[wrong] = (truth[wrong] + 1) % 3


def found(name, expected, nan_in=None, **options):
    given, image = probabilities.copy(), None
    if nan_in is not None:
        image = int(np.flatnonzero((labels == nan_in) & (truth == nan_in))[0])
        given[image] = np.nan
    issues = find_label_issues(labels, given, n_jobs=1, **options)
    counts = [int((issues[wrong] & (truth[wrong] == number)).sum()) for number in range(3)]
    print(f"{name:35} {' '.join(map(str, counts))}")
    assert counts == expected, "other labels are found now"
    return issues, image


print(f"{'wrong labels':35} {' '.join(str((truth[wrong] == number).sum()) for number in range(3))}")
found("all predictions fine", [7, 9, 4])
for number, expected in ((0, [0, 9, 4]), (1, [7, 0, 4])):
    issues, image = found(f"NaN for one image of class {number}", expected, nan_in=number)
    assert not issues[image], "the image itself is told now"
found("the same, predicted_neq_given", [7, 9, 4], nan_in=1, filter_by="predicted_neq_given")
PY
