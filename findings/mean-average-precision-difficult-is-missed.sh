#!/usr/bin/env bash
# An object that is marked difficult can only be missed in mean-average-precision: a detector that finds everything has an AP of 0.5.
#
# "difficult" of VOC and "crowd" of COCO mean that an object counts neither when it is found nor when it is missed. Here a detection of a
# difficult one is ignored, as it should be, and the object still stands in the number that recall is divided by. The more of them a set
# has, the lower is the best AP there can be, and a detector that misses only these seems as good as a perfect one, since both are as low.
# Take the difficult objects out of `gt`, with what found them out of `preds`.
#
# Seen with mean-average-precision 2024.1.5.0, pandas 2.3.3, Python 3.11; AP of a detector whose boxes are the objects, each with 0.9:
# 10 objects, of them difficult  all points  11 points  101 points, soft
# 0                              1.00        1.00       1.00
# 2                              0.80        0.82       0.80
# 5                              0.50        0.55       0.50
# 10                             0.00        0.00       0.00
# half of the objects left out   1.00        1.00       1.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q numpy==2.4.6 pandas==2.3.3 mean-average-precision==2024.1.5.0
venv/bin/python -W ignore - <<'PY'
import numpy as np
from mean_average_precision import MetricBuilder

COUNT = 10
WAYS = (
    {},
    {"recall_thresholds": np.arange(0, 1.1, 0.1)},
    {"recall_thresholds": np.arange(0, 1.01, 0.01), "mpolicy": "soft"},
)


def precisions(difficult, kept=COUNT):
    """AP of a perfect detector in each of the ways, where the first objects are difficult and the last `kept` are told of."""
    corners = [(30.0 * n, 0.0, 30.0 * n + 20, 20.0, 0) for n in range(COUNT)]
    objects = np.array([(*box, n < difficult, 0) for n, box in enumerate(corners)])
    answers = np.array([(*box, 0.9) for box in corners])
    metric = MetricBuilder.build_evaluation_metric("map_2d", num_classes=1)
    metric.add(answers[-kept:], objects[-kept:])
    return [float(metric.value(iou_thresholds=0.5, **way)["mAP"]) for way in WAYS]


def shown(name, values):
    print(f"{name:30} {values[0]:.2f}        {values[1]:.2f}       {values[2]:.2f}")


print("10 objects, of them difficult  all points  11 points  101 points, soft")
for difficult in (0, 2, 5, 10):
    seen = precisions(difficult)
    shown(str(difficult), seen)
    assert all(abs(value - (1 - difficult / COUNT)) < 0.06 for value in seen), "difficult objects count otherwise now"
seen = precisions(5, kept=5)
shown("half of the objects left out", seen)
assert min(seen) > 0.99, "a perfect detector is judged otherwise now"
PY
