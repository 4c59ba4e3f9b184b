#!/usr/bin/env bash
# A switch with the options (True, False) is 0.58 in a search by bayesian-optimization, or 0.10, but never False: it is always on.
#
# Options are given as a tuple, ("adam", "sgd") or ("h", "v", "hv"). A tuple of two numbers is a range, and True and False count as numbers:
# the range runs from 1.0 down to 0.0. What arrives is a fraction, true wherever Python asks for truth, so that the search compares the
# network with the switch on to itself, and names the best fraction in its result. (False, True) is no different. Text works, and so
# does a tuple of three that begins with another option, such as ("auto", True, False). Give ("on", "off") and translate.
#
# Seen with bayesian-optimization 3.4.0, Python 3.11; 200 points:
# options                  different values  on     off
# (True, False)            200               200    0
# (False, True)            200               200    0
# ('on', 'off')            2                 101    99
# ('auto', True, False)    3                 134    66
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q bayesian-optimization==3.4.0 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
from bayes_opt import BayesianOptimization

CASES = ((True, False), (False, True), ("on", "off"), ("auto", True, False))
print("options                  different values  on     off")
for options in CASES:
    values = []

    def train(norm, rate):
        values.append(norm)
        return -rate

    search = BayesianOptimization(train, {"norm": options, "rate": (0.0, 1.0)}, random_state=1, verbose=0)
    search.maximize(init_points=200, n_iter=0)
    on = sum(bool(value) and value != "off" for value in values)
    kinds = {repr(value) for value in values}
    print(f"{options!s:24} {len(kinds):<17} {on:<6} {200 - on}")
    fractions = len(options) == 2 and isinstance(options[0], bool)
    assert (len(kinds) == 200 and on == 200) if fractions else (len(kinds) == len(options) and on < 200), "options are told from ranges now"
PY
