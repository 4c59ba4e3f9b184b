#!/usr/bin/env bash
# A generator that was seeded with 7 shuffles otherwise in every run when it is handed to squirrel, and the seed of the whole program goes too.
#
# shuffle takes `seed`, or `rng`, "either the random module or an instance of random.Random", which one hands over to have one source of
# chance for all. squirrel then seeds it anew, with the process id and the time of day unless `seed` is given as well: random.Random(7) gives
# another order each time, and rng=random turns all that the program draws afterwards into numbers that nobody can repeat: crops, flips, splits.
# IterableSamplerSource, which mixes data sets, does the same. Pass seed=, never rng= alone.
#
# Seen with squirrel-core 0.20.2, Python 3.11; 100 images, shuffled twice in the same way:
# passed                     same order  same numbers from the random module afterwards
# seed=7                     yes         yes
# rng=random.Random(7)       no          yes
# rng=random, seeded with 7  no          no
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q squirrel-core==0.20.2 pandas==2.3.3 numpy==2.4.6 msgpack==1.2.4 fsspec==2026.9.0
venv/bin/python -W ignore - <<'PY'
import random

from squirrel.iterstream import IterableSource


def run(options):
    random.seed(7)
    order = IterableSource(range(100)).shuffle(100, **options()).collect()
    return order, random.random()


print("passed                     same order  same numbers from the random module afterwards")
for title, options, expected in (
    ("seed=7", lambda: {"seed": 7}, ("yes", "yes")),
    ("rng=random.Random(7)", lambda: {"rng": random.Random(7)}, ("no", "yes")),
    ("rng=random, seeded with 7", lambda: {"rng": random}, ("no", "no")),
):
    seen = tuple("yes" if first == second else "no" for first, second in zip(run(options), run(options)))
    print("{:26} {:11} {}".format(title, *seen))
    assert seen == expected, "generators are seeded otherwise now"
PY
