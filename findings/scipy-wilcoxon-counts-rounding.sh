#!/usr/bin/env bash
# A tie that is off by the last bit of a float counts as a difference in the Wilcoxon signed-rank test, and can make it significant.
#
# 0.1 + 0.2 against 0.3 is no difference to anybody who compares accuracies of two networks. The test drops exact ties, but this
# one gets a rank and a sign. With six seeds the p-value falls from 0.0625 to 0.03125, across the usual 5 % line. Differences have
# to be rounded to what the data can tell before the test.
#
# Seen with SciPy 1.17.1, numpy 2.4.6, Python 3.11:
# tie as computed: p = 0.03125
# tie rounded:     p = 0.06250
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q scipy==1.17.1 numpy==2.4.6
venv/bin/python - <<'PY'
import warnings

import numpy as np
from scipy.stats import wilcoxon

warnings.simplefilter("ignore")  # about small samples with ties
searched = np.array([0.1 + 0.2, 0.5, 0.6, 0.7, 0.8, 0.9])
baseline = np.array([0.3, 0.41, 0.48, 0.55, 0.62, 0.69])
as_computed = wilcoxon(searched - baseline).pvalue
rounded = wilcoxon(np.round(searched - baseline, 12)).pvalue
print(f"tie as computed: p = {as_computed:.5f}\ntie rounded:     p = {rounded:.5f}")
assert as_computed < 0.05 < rounded, "differences in the last bit no longer count"
PY
