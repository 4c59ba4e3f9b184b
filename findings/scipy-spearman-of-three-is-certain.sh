#!/usr/bin/env bash
# Spearman's correlation of three networks that two scores put in the same order comes with p = 0: certain beyond doubt.
#
# One of the six orders of three is the right one, so that two scores without any relation agree in one of six cases, and agree or oppose
# each other in one of three. Kendall's p-value says so, as does counting the orders. Spearman's is worked out from Student's t, which is
# infinite for a correlation of 1, whatever the number. Proxies and scores of a supernet are often judged on a handful of trained
# networks, and a table then says p < 0.001 of three of them. Count the orders, or ask for Kendall's tau.
#
# Seen with SciPy 1.17.1, numpy 2.4.6, Python 3.11; p-values of the same order in both scores:
# networks  Spearman  Kendall  share of all orders
# 3         < 1e-20   0.3333   0.3333
# 4         < 1e-20   0.0833   0.0833
# 5         < 1e-20   0.0167   0.0167
# 6         < 1e-20   0.0028   0.0028
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q scipy==1.17.1 numpy==2.4.6
venv/bin/python - <<'PY'
import math

import numpy as np
from scipy.stats import kendalltau, spearmanr

print("networks  Spearman  Kendall  share of all orders")
for number in (3, 4, 5, 6):
    score = np.arange(number)
    spearman, kendall = spearmanr(score, score).pvalue, kendalltau(score, score).pvalue
    counted = 2 / math.factorial(number)  # the same order and its reverse
    print(f"{number:<9} {'< 1e-20' if spearman < 1e-20 else f'{spearman:.4f}':9} {kendall:.4f}   {counted:.4f}")
    assert spearman < 1e-20 and math.isclose(kendall, counted), "few networks are judged otherwise now"
PY
