#!/usr/bin/env bash
# One win and five ties make a network better with a probability of 1.0 in baycomp, and with six ties it is 0.7 for whichever comes first.
#
# Where rope is 0, the default, the Bayesian signed-rank test over data sets counts a tie half for each side and asks how often one side has
# more than half: one win tips it in every sample. Of ties alone, the sign of a rounding error is left, 0.7 for the first network and 0.7 for
# the second once they change places. The sign test drops ties: 1.0, and NaN where there is nothing else. The smallest rope is the remedy:
# ties then have a probability of their own, and speak for it. That 0 is no small rope is not documented.
#
# Seen with baycomp 1.0.3, numpy 2.4.6, Python 3.11; six data sets, probability that the first network is better (signed-rank, sign test):
# of six data sets              rope=0         places changed  rope=1e-6
# six ties                      0.70, nan      0.30, nan       0.00, 0.00
# a win, five ties              1.00, 1.00     1.00, 1.00      0.15, 0.02
# two wins, four ties           1.00, 1.00     1.00, 1.00      0.49, 0.11
# two wins, a loss, three ties  0.75, 0.80     0.75, 0.80      0.47, 0.18
# six wins                      1.00, 1.00     1.00, 1.00      1.00, 0.99
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q baycomp==1.0.3 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
from baycomp import SignedRankTest, SignTest

BASE = np.array([0.81, 0.84, 0.87, 0.9, 0.93, 0.96])
CASES = (
    ("six ties", (0, 0, 0, 0, 0, 0), (0.7, np.nan)),
    ("a win, five ties", (1, 0, 0, 0, 0, 0), (1, 1)),
    ("two wins, four ties", (1, 1, 0, 0, 0, 0), (1, 1)),
    ("two wins, a loss, three ties", (1, 1, -1, 0, 0, 0), (0.75, 0.8)),
    ("six wins", (1, 1, 1, 1, 1, 1), (1, 1)),
)


def better(first, second, place, rope):
    """The probability that the network at `place` of a call is better, by both tests."""
    return [test.probs(first, second, rope=rope, random_state=0)[place] for test in (SignedRankTest, SignTest)]


print("of six data sets              rope=0         places changed  rope=1e-6")
for name, wins, expected in CASES:
    first = BASE + 0.01 * np.array(wins)
    seen = better(first, BASE, 0, 0), better(BASE, first, -1, 0), better(first, BASE, 0, 1e-6)
    plain, changed, roped = (", ".join(f"{value:.2f}" for value in pair) for pair in seen)
    print(f"{name:29} {plain:<14} {changed:<15} {roped}")
    assert np.allclose(seen[0], expected, atol=0.02, equal_nan=True), "ties count otherwise now"
    assert (seen[2][0] < 0.5) == (0 in wins), "a small rope changes nothing now"
PY
