#!/usr/bin/env bash
# The same two masks have an "HD95" of 0 by MedPy and of 60 by MONAI, and between two networks the two libraries choose differently.
#
# Both take the 95th percentile of the distances between the borders so that stray pixels do not count. MedPy puts the distances of both
# directions into one list. MONAI takes the percentile of each direction and then the larger one. A false region that is 9 % of the
# predicted border, but less than 5 % of both, is a stray one for MedPy, and the whole result for MONAI. Each says "95th percentile of the
# Hausdorff distance" and nothing else. Compute both networks of a comparison with one library, and name it beside the number.
#
# Seen with MedPy 0.5.2, MONAI 1.6.1, torch 2.13.0, Python 3.11; a square of 40 x 40 pixels:
# prediction                        MedPy    MONAI
# moved by 3                        3.000    3.000
# exact, and a false region of 9 %  0.000    60.472
# exact, and a false region of 3 %  0.000    0.000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 monai==1.6.1 numpy==2.4.6 scipy==1.17.1
venv/bin/pip install -q --no-deps medpy==0.5.2
venv/bin/python -W ignore - <<'PY'
import numpy as np
import torch
from medpy.metric.binary import hd95
from monai.metrics import compute_hausdorff_distance


def mask(*squares):
    made = np.zeros((128, 128), dtype=bool)
    for row, column, side in squares:
        made[row : row + side, column : column + side] = True
    return made


def by_monai(answer, truth):
    answer, truth = (torch.from_numpy(one)[None, None].float() for one in (answer, truth))
    return compute_hausdorff_distance(answer, truth, include_background=True, percentile=95).item()


truth = mask((20, 20, 40))
CASES = {
    "moved by 3": mask((23, 20, 40)),
    "exact, and a false region of 9 %": mask((20, 20, 40), (100, 100, 5)),
    "exact, and a false region of 3 %": mask((20, 20, 40), (100, 100, 2)),
}
print("prediction                        MedPy    MONAI")
rows = {}
for name, answer in CASES.items():
    rows[name] = float(hd95(answer, truth)), by_monai(answer, truth)
    print(f"{name:33} {rows[name][0]:<8.3f} {rows[name][1]:.3f}")
moved, region, small = rows.values()
assert moved[0] == moved[1] == 3 and small == (0, 0)
assert region[0] == 0 and region[1] > 50, "both take one percentile now"
PY
