#!/usr/bin/env bash
# qrandint(2, 12, 2) of Syne Tune draws 4 and 8 three times as often as 2, 6 and 10, and qrandint(1, 6, 2) draws 0, which is below the range.
#
# A whole number of the range is drawn and rounded to a multiple of the step. An odd number is half-way between two, and NumPy rounds
# such ones to the even quotient: 3 and 5 both become 4, while nothing but 6 becomes 6. So of depths or numbers of heads in steps of
# 2 every other one is nearly all of a random search, and the docstring says "uniformly". Any even step has it, less the larger it is.
# Ray, from which the function came, draws all alike by now, and FLAML too. List the numbers: finrange(2, 12, 6, cast_int=True).
#
# Seen with Syne Tune 0.16.0, Python 3.11; parts of 20,000 draws:
# qrandint(2, 12, 2)  2: 0.09  4: 0.27  6: 0.09  8: 0.27  10: 0.09  12: 0.18
# qrandint(0, 8, 2)   0: 0.22  2: 0.11  4: 0.34  6: 0.11  8: 0.22
# qrandint(1, 6, 2)   0: 0.17  2: 0.17  4: 0.50  6: 0.17
# finrange            2: 0.17  4: 0.17  6: 0.17  8: 0.17  10: 0.17  12: 0.17
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q numpy==2.4.6 pandas==3.1.1 dill==0.4.1 typing_extensions==4.16.0
venv/bin/pip install -q --no-deps syne-tune==0.16.0
venv/bin/python -W ignore - <<'PY'
from collections import Counter

import numpy as np
from syne_tune.config_space import finrange, qrandint


def parts(name, space):
    state = np.random.RandomState(0)
    counts = Counter(int(space.sample(random_state=state)) for _ in range(20_000))
    shares = {number: counts[number] / 20_000 for number in sorted(counts)}
    print(f"{name:19} {'  '.join(f'{number}: {share:.2f}' for number, share in shares.items())}")
    return shares


heads = parts("qrandint(2, 12, 2)", qrandint(2, 12, 2))
parts("qrandint(0, 8, 2)", qrandint(0, 8, 2))
below = parts("qrandint(1, 6, 2)", qrandint(1, 6, 2))
even = parts("finrange", finrange(2, 12, 6, cast_int=True))
assert heads[4] > 2.5 * heads[6] and heads[8] > 2.5 * heads[10], "all steps are as likely now"
assert below[0] > 0.1, "nothing below the range is drawn now"
assert max(even.values()) < 0.18 and min(even.values()) > 0.15
PY
