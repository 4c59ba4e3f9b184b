#!/usr/bin/env bash
# deepsig's correction for many comparisons gets weaker the more there are, and with two networks nothing can be found at all.
#
# Its documentation promises Bonferroni's rule: what is left of the confidence, 5 %, is divided by the number of comparisons. deepsig adds
# that part to the 95 % in place of leaving it over: three comparisons are made at 96.7 % (98.3 % is right), 45 comparisons, ten networks,
# at 95.1 % (99.9 %), which is no correction. For the one comparison of two networks multi_aso comes to 100 %, so its answer is 1.0, no
# evidence, though aso itself says 0.33 of the same scores. Give aso confidence_level=1 - 0.05 / number and no num_comparisons; give
# multi_aso use_bonferroni=False and such a confidence_level.
#
# Seen with deepsig 1.2.8, SciPy 1.17.1, numpy 2.4.6, Python 3.11; ten seeds each, one of the two networks is nearly always ahead:
# comparisons           1      2      3      6      45
# epsilon by deepsig    0.33   0.39   0.37   0.35   0.33
# by Bonferroni's rule  0.33   0.39   0.43   0.48   0.61
# multi_aso of the two networks: 1.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q deepsig==1.2.8 scipy==1.17.1 pandas==2.3.3 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
from deepsig import aso, multi_aso

NUMBERS = (1, 2, 3, 6, 45)
ahead = np.array([0.89, 0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98])
behind = np.array([0.83, 0.86, 0.88, 0.89, 0.90, 0.91, 0.92, 0.94, 0.97, 0.99])
options = {"num_bootstrap_iterations": 100, "show_progress": False, "seed": 1}
theirs = [aso(ahead, behind, num_comparisons=number, **options) for number in NUMBERS]
bonferroni = [aso(ahead, behind, confidence_level=1 - 0.05 / number, **options) for number in NUMBERS]
two = multi_aso({"ahead": ahead, "behind": behind}, **options)[0, 1]
for label, values in (("epsilon by deepsig", theirs), ("by Bonferroni's rule", bonferroni)):
    print(f"{label:21} {'   '.join(f'{value:.2f}' for value in values)}")
print(f"multi_aso of the two networks: {two:.2f}")
assert all(more > fewer for fewer, more in zip(bonferroni, bonferroni[1:])), "the bootstrap finds no spread"
assert theirs[1] > theirs[2] > theirs[3] > theirs[4] and theirs[4] < bonferroni[1], "deepsig is stricter with more comparisons now"
assert theirs[0] < 0.5 and two == 1, "two networks can be told apart now"
PY
