#!/usr/bin/env bash
# A learning rate that ConfigSpace draws normally on a log scale is the same to three digits at sigma=1, and spread alike at 0.1 and at 10.
#
# With log=True the mean is a value of the range, here 0.003, so sigma is taken for one of those or for a width in logarithms. It is
# neither: the width is |log(lower + sigma)| over that of the range. It is 0 where lower + sigma is 1, grows to either side, and hardly falls
# as sigma goes to 0. A search with sigma=1, "a factor of e", always trains with 0.0030; one with sigma=0.001, meant to be narrow, is all but
# uniform. Another lower bound gives other numbers. Nothing is said. Draw the logarithm from a normal float without log, and take exp of it.
#
# Seen with ConfigSpace 1.2.2, Python 3.11; Float("lr", (1e-4, 1e-1), distribution=Normal(0.003, sigma), log=True), 20,000 draws:
# sigma   5 %      half     95 %
# 0.001   0.00014  0.0030   0.068
# 0.1     0.00018  0.0030   0.051
# 0.5     0.00093  0.0030   0.0093
# 1       0.0030   0.0030   0.0030
# 2       0.00093  0.0030   0.0093
# 10      0.00018  0.0030   0.051
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q ConfigSpace==1.2.2 numpy==2.4.6 scipy==1.17.1
venv/bin/python -W ignore - <<'PY'
import numpy as np
from ConfigSpace import Float, Normal

print("sigma   5 %      half     95 %")
widths = {}
for sigma in (0.001, 0.1, 0.5, 1, 2, 10):
    space = Float("lr", (1e-4, 1e-1), distribution=Normal(0.003, sigma), log=True)
    rates = space.sample_value(size=20_000, seed=np.random.RandomState(0))
    low, half, high = np.percentile(rates, [5, 50, 95])
    print(f"{sigma:<7} {low:<#8.2g} {half:<#8.2g} {high:#.2g}")
    widths[sigma] = float(np.log(high / low))
assert widths[1] < 0.001 and widths[0.001] > widths[0.1] > 5, "the spread of a normal on a log scale is another now"
assert abs(widths[0.1] - widths[10]) < 0.05, "sigma 0.1 and 10 differ now"
PY
