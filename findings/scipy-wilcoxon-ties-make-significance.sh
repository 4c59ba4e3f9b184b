#!/usr/bin/env bash
# Five wins are no proof for the Wilcoxon signed-rank test, p = 0.0625; five wins and nine ties are one, p = 0.04 or, by Pratt, 0.03.
#
# All signs of five differences agree by chance in 2 of 32 cases, whatever else was equal: 0.0625 is the least p there can be. SciPy counts
# these cases up to 13 pairs, ties among them, and takes the normal distribution for more, however few of the pairs differ. Rounds in which
# two searches end with the same network, or seeds with the same number of right answers, are such ties, and with nine of them the p-value
# crosses 5 %. Count the signs of what differs (dropping zeros first, under "wilcox").
#
# Seen with SciPy 1.17.1, numpy 2.4.6, Python 3.11; five wins and
#  0 ties: wilcox 0.0625, pratt 0.0625
#  8 ties: wilcox 0.0625, pratt 0.0625
#  9 ties: wilcox 0.0431, pratt 0.0264
# 40 ties: wilcox 0.0431, pratt 0.0254
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q scipy==1.17.1 numpy==2.4.6
venv/bin/python - <<'PY'
from scipy.stats import wilcoxon

WINS = [0.01, 0.02, 0.03, 0.04, 0.05]
for ties in (0, 8, 9, 40):
    dropped, pratt = (wilcoxon([0.0] * ties + WINS, zero_method=method).pvalue for method in ("wilcox", "pratt"))
    print(f"{ties:2} ties: wilcox {dropped:.4f}, pratt {pratt:.4f}")
    assert [bool(p < 0.05) for p in (dropped, pratt)] == [ties > 8] * 2, "ties count otherwise now"
PY
