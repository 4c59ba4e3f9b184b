#!/usr/bin/env bash
# hp.uniformint of hyperopt draws the first and the last number half as often as those between: of 1, 2 and 3 it is 2 every second time.
#
# It rounds a uniform number between the bounds to the nearest whole one, so each end has half an interval. Its name and its documentation
# say uniform. A search that draws a number of layers or of directions this way rarely looks at the ends, where the best often is, and a
# random search that others are compared with is another one than described. TPE starts from the same draws. hp.randint(label, low,
# high + 1) is uniform, and so are hp.choice and the integers of Optuna and ConfigSpace.
#
# Seen with hyperopt 0.3.0, NumPy 2.4.6, Python 3.11; share of each number:
# numbers  drawn by                 shares
# 1 to 3   sample, uniformint       0.25 0.50 0.25
# 1 to 3   fmin, uniformint         0.24 0.50 0.26
# 1 to 3   sample, randint          0.33 0.33 0.33
# 1 to 6   sample, uniformint       0.10 0.20 0.20 0.20 0.20 0.10
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q hyperopt==0.3.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
from hyperopt import fmin, hp, rand
from hyperopt.pyll.stochastic import sample


def by_sample(expression):
    draw = np.random.default_rng(0)
    return [int(sample(expression, rng=draw)) for _ in range(10000)]


def by_fmin(expression):
    """What a random search of 1000 trials tries."""
    tried = []

    def loss(number):
        tried.append(number)
        return 0.0

    fmin(loss, expression, rand.suggest, 1000, rstate=np.random.default_rng(0), show_progressbar=False, verbose=False)
    return tried


SIX = [0.1] + [0.2] * 4 + [0.1]
CASES = (
    (3, "sample, uniformint", by_sample, hp.uniformint("layers", 1, 3), [0.25, 0.5, 0.25]),
    (3, "fmin, uniformint", by_fmin, hp.uniformint("layers", 1, 3), [0.25, 0.5, 0.25]),
    (3, "sample, randint", by_sample, hp.randint("layers", 1, 4), [1 / 3] * 3),
    (6, "sample, uniformint", by_sample, hp.uniformint("layers", 1, 6), SIX),
)
print("numbers  drawn by                 shares")
for last, how, draw, expression, expected in CASES:
    drawn = np.array(draw(expression))
    seen = [float((drawn == number).mean()) for number in range(1, last + 1)]
    print(f"1 to {last}   {how:24} {' '.join(f'{share:.2f}' for share in seen)}")
    assert np.allclose(seen, expected, atol=0.05), "the ends are drawn otherwise now"
PY
