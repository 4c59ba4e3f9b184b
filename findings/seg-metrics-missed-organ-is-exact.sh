#!/usr/bin/env bash
# A network that does not find an organ at all is 0 away from it by seg-metrics, in every distance: nearer than one that is 3 pixels off.
#
# A mask without a pixel has no border to measure from. seg-metrics takes 0 for its map of distances then, so that each pixel of the other
# border is 0 away, and means, maxima and percentiles are those of an exact answer. A false alarm in a scan without the organ
# has 0 as well, and a false-positive rate of 0. In a mean over scans the network that gives up on hard ones gets nearer to the truth.
# A line of the log tells only of rates. Set the distances to infinity, or to the diagonal, wherever Dice is 0.
#
# Seen with seg-metrics 1.2.8, SimpleITK 2.5.7, Python 3.11; a square of 40 x 40 pixels:
# prediction             Dice    Hausdorff  95 %    mean    false-positive rate
# exact                  1.000   0.000      0.000   0.000   0.000
# moved by 3             0.925   3.000      3.000   1.500   0.008
# nothing found          0.000   0.000      0.000   0.000   0.000
# found, without one     0.000   0.000      0.000   0.000   0.000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q numpy==2.4.6 scipy==1.17.1 pandas==2.3.3 matplotlib==3.11.2 tqdm==4.70.1 simpleitk==2.5.7
venv/bin/pip install -q --no-deps seg-metrics==1.2.8 medutils==0.1.21
venv/bin/python -W ignore - <<'PY'
import logging
import sys
import types

import numpy as np

logging.disable(logging.CRITICAL)
sys.modules["pingouin"] = types.ModuleType("pingouin")  # medutils imports it, for statistics that nothing here asks for
from seg_metrics.seg_metrics import write_metrics


def square(row):
    mask = np.zeros((128, 128), dtype=int)
    mask[row : row + 40, 20:60] = 1
    return mask


organ, nothing = square(20), np.zeros((128, 128), dtype=int)
CASES = {
    "exact": (organ, organ),
    "moved by 3": (organ, square(23)),
    "nothing found": (organ, nothing),
    "found, without one": (nothing, organ),
}
NAMES = ("dice", "hd", "hd95", "msd", "fpr")
print("prediction             Dice    Hausdorff  95 %    mean    false-positive rate")
rows = {}
for name, (truth, answer) in CASES.items():
    result = write_metrics(labels=[1], gdth_img=truth, pred_img=answer)
    result = result[0] if isinstance(result, list) else result
    rows[name] = [float(np.squeeze(result[key])) for key in NAMES]
    dice, largest, most, mean, alarms = rows[name]
    print(f"{name:22} {dice:.3f}   {largest:.3f}      {most:.3f}   {mean:.3f}   {alarms:.3f}")
for name in ("nothing found", "found, without one"):
    assert rows[name] == [0] * 5, "what is not there is somewhere else now"
assert rows["moved by 3"][1] > 2.9 and rows["exact"][0] == 1
PY
