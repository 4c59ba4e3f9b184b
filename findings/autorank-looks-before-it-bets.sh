#!/usr/bin/env bash
# autorank finds a difference at 5 % in 9 % of comparisons where there is none: it looks which network is ahead, then tests that side only.
#
# For two columns that are not normal its documentation names Wilcoxon's signed rank test, and alpha is "the significance level". The test
# it runs is the one-sided one, in favour of the column whose median is larger in the same data, so its p-value is half of what it should
# be. Five wins in five seeds, which no two-sided rank test takes for proof (p = 0.0625), are one (p = 0.03125). Only verbose=True says
# "one-sided". Double the p-value, or ask scipy.stats.wilcoxon. With three columns or more it runs Friedman's test, which has no sides.
#
# Seen with autorank 1.3.0, SciPy 1.17.1, pandas 2.3.3, numpy 2.4.6, Python 3.11; six pairs, all 64 ways in which chance can sign them:
#            p of five wins   found at 5 %, of 64
# autorank   0.03125          6
# SciPy      0.06250          2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q autorank==1.3.0 scipy==1.17.1 statsmodels==0.15.0 pandas==2.3.3 numpy==2.4.6
MPLBACKEND=agg venv/bin/python -W ignore - <<'PY'
import contextlib
import io
from itertools import product

import numpy as np
import pandas as pd
from autorank import autorank
from scipy.stats import wilcoxon


def p_values(differences):
    """What autorank and SciPy say of two networks with these differences in accuracy, in points of a hundred."""
    half = np.array(differences) / 200
    pair = pd.DataFrame({"searched": 0.7 + half, "baseline": 0.7 - half})
    with contextlib.redirect_stdout(io.StringIO()):  # it tells that the test was chosen
        told = autorank(pair, alpha=0.05, force_mode="nonparametric")
    assert told.omnibus == "wilcoxon"
    return told.pvalue, wilcoxon(pair["searched"], pair["baseline"]).pvalue


wins = p_values((1, 2, 3, 4, 5))
by_chance = [p_values(np.arange(1, 7) * signs) for signs in product((1, -1), repeat=6)]
print("           p of five wins   found at 5 %, of 64")
for name, five, found in zip(("autorank", "SciPy"), wins, np.sum(np.array(by_chance) < 0.05, axis=0), strict=True):
    print(f"{name:10} {five:<16.5f} {found}")
    assert (five < 0.05, found) == ((True, 6) if name == "autorank" else (False, 2)), "autorank tests both sides now"
PY
