#!/usr/bin/env bash
# Two networks that answer every image alike differ with p = 0 by McNemar's test, in mlxtend and, without its exact form, in statsmodels.
#
# The test looks at images that only one of the two gets right, b and c. The statistic is (|b - c| - 1)^2 / (b + c), with the correction that is
# on by default: where nothing differs, as with an exported network or the same checkpoint twice, it is 1 / 0. With one such image p is 1.
# Where b and c are equal p is below 1 too, as if they differed by one. mlxtend's default is this form, and needs exact=True; statsmodels
# has the exact one by default. numpy warns of a division; a loop over many pairs counts a significant difference.
#
# Seen with mlxtend 0.25.0, statsmodels 0.15.0, Python 3.11; p of b and c images that only one network gets right:
# b, c     mlxtend  mlxtend, exact=True  statsmodels  statsmodels, exact=False
# 0, 0     0.000    1.000                1.000        0.000
# 1, 0     1.000    1.000                1.000        1.000
# 1, 1     0.480    1.000                1.000        0.480
# 5, 5     0.752    1.000                1.000        0.752
# 40, 40   0.911    1.000                1.000        0.911
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q mlxtend==0.25.0 statsmodels==0.15.0 scipy==1.17.1 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
from mlxtend.evaluate import mcnemar, mcnemar_table
from statsmodels.stats.contingency_tables import mcnemar as of_statsmodels

IMAGES = 100


def answers(b, c):
    """The labels and what two networks say: b images that only the first gets right, c that only the second does."""
    labels = np.zeros(IMAGES, int)
    first, second = labels.copy(), labels.copy()
    second[:b], first[b : b + c] = 1, 1
    return labels, first, second


print("b, c     mlxtend  mlxtend, exact=True  statsmodels  statsmodels, exact=False")
for b, c, expected in ((0, 0, 0.0), (1, 0, 1.0), (1, 1, 0.4795), (5, 5, 0.7518), (40, 40, 0.911)):
    table = mcnemar_table(*answers(b, c))
    seen = [
        mcnemar(table)[1],
        mcnemar(table, exact=True)[1],
        of_statsmodels(table).pvalue,
        of_statsmodels(table, exact=False).pvalue,
    ]
    print(f"{f'{b}, {c}':8} {seen[0]:<8.3f} {seen[1]:<20.3f} {seen[2]:<12.3f} {seen[3]:.3f}")
    assert np.allclose(seen, [expected, 1, 1, expected], atol=1e-3), "McNemar's test is computed otherwise now"
PY
