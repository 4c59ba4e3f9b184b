#!/usr/bin/env bash
# Run 0 of seed 7 draws the numbers of seed 7 itself: NumPy's default_rng([7, 0]) is default_rng(7), and default_rng([7, 0, 0]) as well.
#
# A list of numbers is the usual way to give every run, arm or worker a stream of its own, and NumPy says that [seed, number] will work.
# But it fills up short lists with zeros, so zeros at the end are as good as none: arm 0, and only arm 0, shares its luck with whatever
# else was drawn from the seed alone, such as the split of the data. A list is not told apart from one large number either: [7, 1] is
# 7 + 2**32. Spawned seeds have no such twins. Put the number that varies first, as in default_rng([arm, 7]), or hash a text.
#
# Seen with numpy 2.4.6, Python 3.11; the same first numbers come from
# 7            [7]  [7, 0]  [7, 0, 0]
# [7, 1]       4294967303
# [0, 7]       (none of these)
# spawn 0      (none of these)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q numpy==2.4.6
venv/bin/python - <<'PY'
from numpy.random import SeedSequence, default_rng

SEEDS = (7, [7], [7, 0], [7, 0, 0], [7, 1], 7 + 2**32, [0, 7])


def drawn(seed):
    """The first numbers of a stream."""
    return tuple(default_rng(seed).random(4))


streams = {str(seed): drawn(seed) for seed in SEEDS}
asked = {name: streams[name] for name in ("7", "[7, 1]", "[0, 7]")} | {"spawn 0": drawn(SeedSequence(7).spawn(1)[0])}
for name, numbers in asked.items():
    same = [other for other, theirs in streams.items() if theirs == numbers and other != name]
    print(f"{name:12} {'  '.join(same) or '(none of these)'}")
    expected = {"7": ["[7]", "[7, 0]", "[7, 0, 0]"], "[7, 1]": [str(7 + 2**32)]}.get(name, [])
    assert same == expected, "NumPy tells other lists apart now"
PY
