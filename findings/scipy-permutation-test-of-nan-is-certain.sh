#!/usr/bin/env bash
# One accuracy that is NaN makes SciPy's permutation test certain of a difference, in either direction: p = 0, where every other test says NaN.
#
# The p-value is how many permutations are at least as extreme as what was seen. Nothing compares with NaN, so none is: 0 where all
# permutations are tried, and the smallest p that there is, such as 0.0001, where 9999 are drawn. "less" and "greater" are significant both
# at once. A statistic that is undefined does the same, as the correlation of a score that gives all networks one value; pearsonr with
# PermutationMethod and monte_carlo_test as well. The documentation has no word of NaN here, and no warning comes. Look for NaN before.
#
# Seen with SciPy 1.17.1, numpy 2.4.6, Python 3.11; six accuracies of each of two networks, one of them NaN:
# test                                          p
# ttest_rel                                     nan
# wilcoxon                                      nan
# mannwhitneyu                                  nan
# ttest_ind(method=PermutationMethod())         nan
# permutation_test, difference of the means     0.0
# the same, alternative="less"                  0.0
# the same, alternative="greater"               0.0
# the same, 20 of each network, 9999 drawn      0.0002
# permutation_test, samples in pairs            0.0
# permutation_test, Spearman of one value       0.0
# pearsonr(method=PermutationMethod())          0.0
# monte_carlo_test, 9999 drawn                  0.0002
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q scipy==1.17.1 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import math

import numpy as np
from scipy import stats

first = np.array([0.91, 0.92, 0.93, 0.94, 0.95, 0.96])
second = np.array([0.92, 0.90, 0.95, 0.93, math.nan, 0.95])
numbers = np.random.default_rng(0)
many = numbers.random(20), np.append(numbers.random(19), math.nan)
drawn = stats.PermutationMethod(rng=0)


def permuted(a, b, **options):
    return stats.permutation_test((a, b), lambda a, b, axis: np.mean(a, axis) - np.mean(b, axis), rng=0, **options)


def ranked(a, b):
    return stats.permutation_test((a,), lambda a: stats.spearmanr(a, b).statistic, permutation_type="pairings", rng=0)


SMALLEST = 2e-4  # of 9999
CASES = (
    ("ttest_rel", stats.ttest_rel(first, second), math.nan),
    ("wilcoxon", stats.wilcoxon(first, second), math.nan),
    ("mannwhitneyu", stats.mannwhitneyu(first, second), math.nan),
    ("ttest_ind(method=PermutationMethod())", stats.ttest_ind(first, second, method=drawn), math.nan),
    ("permutation_test, difference of the means", permuted(first, second), 0),
    ('the same, alternative="less"', permuted(first, second, alternative="less"), 0),
    ('the same, alternative="greater"', permuted(first, second, alternative="greater"), 0),
    ("the same, 20 of each network, 9999 drawn", permuted(*many), SMALLEST),
    ("permutation_test, samples in pairs", permuted(first, second, permutation_type="samples"), 0),
    ("permutation_test, Spearman of one value", ranked(np.full(5, 0.9), first[:5]), 0),
    ("pearsonr(method=PermutationMethod())", stats.pearsonr(first, second, method=drawn), 0),
    ("monte_carlo_test, 9999 drawn", stats.monte_carlo_test(second, stats.norm(0.9, 0.1).rvs, np.mean), SMALLEST),
)
print(f"{'test':45} p")
for name, test, expected in CASES:
    print(f"{name:45} {round(float(test.pvalue), 4)}")
    assert np.isclose(test.pvalue, expected, atol=1e-12, equal_nan=True), "NaN is permuted otherwise now"
PY
