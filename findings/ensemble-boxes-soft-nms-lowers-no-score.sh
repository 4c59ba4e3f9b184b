#!/usr/bin/env bash
# soft_nms of ensemble-boxes lowers no score: a second box on the same object comes back as sure as it went in.
#
# Soft-NMS keeps boxes that overlap a better one and lowers their scores instead, so that they come behind all other objects. The function
# lowers the scores of a copy, takes from it only which boxes are still above the threshold (0.001: all of them), and returns these with
# the scores that they had. What is left is the answer of the detectors, each object found as often as there are detectors, and average
# precision is that of no suppression at all. Both methods do so; a small sigma only leaves out more. Lower the scores oneself, or take nms.
#
# Seen with ensemble-boxes 1.0.9, Python 3.11; two objects, of which two detectors find one and one finds the other:
# scores given                   0.90 0.80 0.50
# Soft-NMS, Gaussian, sigma 0.5  0.90 0.13 0.50
# soft_nms, method=2             0.90 0.80 0.50
# soft_nms, method=1             0.90 0.80 0.50
# nms                            0.90 0.50
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q ensemble-boxes==1.0.9 numba==0.68.1 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import math

from ensemble_boxes import nms, soft_nms

boxes = [[[0.1, 0.1, 0.5, 0.5]], [[0.1, 0.1, 0.5, 0.48], [0.6, 0.6, 0.9, 0.9]]]
scores, labels = [[0.9], [0.8, 0.5]], [[0], [0, 0]]
overlap = 0.38 / 0.4
expected = [0.9, 0.8 * math.exp(-(overlap**2) / 0.5), 0.5]


def told(name, numbers):
    print(f"{name:30} {' '.join(f'{number:.2f}' for number in numbers)}")
    return [round(float(number), 2) for number in numbers]


given = told("scores given", [0.9, 0.8, 0.5])
assert told("Soft-NMS, Gaussian, sigma 0.5", expected) == [0.9, 0.13, 0.5]
for method in (2, 1):
    found, after, _ = soft_nms(boxes, scores, labels, method=method, iou_thr=0.3, sigma=0.5)
    best = {tuple(box.round(2)): score for box, score in zip(found, after)}
    order = [best[tuple(box)] for box in boxes[0] + boxes[1]]
    assert told(f"soft_nms, method={method}", order) == given, "scores are lowered now"
assert told("nms", nms(boxes, scores, labels, iou_thr=0.3)[1]) == [0.9, 0.5], "nms keeps other boxes now"
PY
