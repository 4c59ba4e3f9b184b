#!/usr/bin/env bash
# pingouin says that a paired test of six seeds had a power of 5 %, where it finds the difference in 96 of 100 repetitions.
#
# Beside the p-value of a paired t-test, pingouin prints Cohen's d by the spread of the accuracies, not of their differences, and computes
# "power" from it. The power of a paired test goes by the spread of the differences: that seeds differ by 5 points costs nothing where both
# networks share them. Such a test reads p = 0.006 beside a power of 0.056, and a plan made from it asks for hundreds of seeds, or one says
# that nothing could have been found. power_ttest is right when its d is the mean of the differences by their own spread.
#
# Seen with pingouin 0.7.0, SciPy 1.17.1, Python 3.11; accuracies of six seeds, differences of 0.3 +- 0.15 points, 300 repetitions:
# spread of the seeds  found at 5 %  power, on average  power_ttest of the differences
# 5 points             0.963         0.053              0.971
# 1 point              0.963         0.119              0.971
# 0.3 points           0.963         0.536              0.971
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pingouin==0.7.0 scipy==1.17.1 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
from pingouin import power_ttest, ttest

MEAN, SPREAD, SEEDS, REPETITIONS = 0.3, 0.15, 6, 300
print("spread of the seeds  found at 5 %  power, on average  power_ttest of the differences")
true = power_ttest(d=MEAN / SPREAD, n=SEEDS, contrast="paired")
for name, by_seed in (("5 points", 5), ("1 point", 1), ("0.3 points", 0.3)):
    numbers = np.random.default_rng(0)
    found, power = [], []
    for _ in range(REPETITIONS):
        baseline = 80 + by_seed * numbers.standard_normal(SEEDS)
        test = ttest(baseline + MEAN + SPREAD * numbers.standard_normal(SEEDS), baseline, paired=True).iloc[0]
        found.append(test["p_val"] < 0.05)
        power.append(test["power"])
    print(f"{name:20} {np.mean(found):<13.3f} {np.mean(power):<18.3f} {true:.3f}")
    assert np.mean(found) > 0.9 and true > 0.95 and np.mean(power) < 0.6, "the power of a paired test goes by its differences now"
PY
