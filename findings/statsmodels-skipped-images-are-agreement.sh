#!/usr/bin/env bash
# Three annotators who answer at random have a Fleiss kappa of 0.50 by statsmodels, if each of them skipped the same half of the images.
#
# aggregate_raters counts the answers of each image, and NaN, no answer, is a class of its own there. Who leaves out the same images, since
# nobody was asked about them, agrees in these; who leaves out others, since each saw a part, disagrees. Both look like a property of the
# annotators, and no error or warning comes: fleiss_kappa only sees a table of whole numbers. krippendorff leaves NaN out. Drop the images
# that not all have answered, look whether the second value returned holds NaN, or take Krippendorff's alpha.
#
# Seen with statsmodels 0.15.0, krippendorff 0.9.0, Python 3.11; 2000 images, three classes, three annotators:
# answers    skipped                  Fleiss' kappa  without NaN  Krippendorff's alpha
# at random  none                     -0.01          -0.01        -0.01
# at random  half of them, by all     0.50           0.00         0.00
# all equal  none                     1.00           1.00         1.00
# all equal  each a third of his own  0.10           no image     1.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q numpy==2.4.6 scipy==1.17.1 pandas==2.3.3 statsmodels==0.15.0 krippendorff==0.9.0
venv/bin/python - <<'PY'
import krippendorff
import numpy as np
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

COUNT, CLASSES, RATERS = 2000, 3, 3
rng = np.random.default_rng(0)
guessed = rng.integers(0, CLASSES, (COUNT, RATERS)).astype(float)
agreed = np.repeat(guessed[:, :1], RATERS, axis=1)
halves = np.arange(COUNT) % 2 == 0
each = np.arange(COUNT)[:, None] % RATERS == np.arange(RATERS)
CASES = (
    ("at random", guessed, "none", np.zeros((COUNT, RATERS), bool), 0.0),
    ("at random", guessed, "half of them, by all", np.repeat(halves[:, None], RATERS, axis=1), 0.5),
    ("all equal", agreed, "none", np.zeros((COUNT, RATERS), bool), 1.0),
    ("all equal", agreed, "each a third of his own", each, 0.0),
)


def kappa(answers):
    return fleiss_kappa(aggregate_raters(answers)[0])


print("answers    skipped                  Fleiss' kappa  without NaN  Krippendorff's alpha")
for name, answers, how, skipped, expected in CASES:
    seen = np.where(skipped, np.nan, answers)
    whole = seen[~skipped.any(axis=1)]
    mine = kappa(seen)
    without = f"{kappa(whole):.2f}" if len(whole) else "no image"
    other = krippendorff.alpha(seen.T, level_of_measurement="nominal")
    print(f"{name}  {how:24} {mine:<14.2f} {without:12} {other:.2f}")
    assert abs(other - (answers is agreed)) < 0.03, "krippendorff counts otherwise now"
    assert abs(mine - expected) < 0.1, "statsmodels treats NaN otherwise now"
PY
