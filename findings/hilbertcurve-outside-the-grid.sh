#!/usr/bin/env bash
# Two libraries of Hilbert curves answer for cells outside of their square, with the rank of a cell inside.
#
# A scan order for 14 x 14 tokens needs a curve of side 16. With side 8, a slip of one, nothing is raised: numbers come back, and
# several tokens share one rank. Sorted by rank they still make a permutation, so a network trains on an order that is no Hilbert
# curve. hilbertcurve refuses such cells when asked for many at once (distances_from_points), not when asked for one. Check that
# ranks are unique, and that neighbours in the order touch.
#
# Seen with hilbertcurve 2.0.5, numpy-hilbert-curve 1.0.1, Python 3.11:
# hilbertcurve:        196 tokens, 64 different ranks
# numpy-hilbert-curve: 196 tokens, 64 different ranks
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q hilbertcurve==2.0.5 numpy-hilbert-curve==1.0.1 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
from hilbert import encode
from hilbertcurve.hilbertcurve import HilbertCurve

tokens = [[i, j] for i in range(14) for j in range(14)]
curve = HilbertCurve(p=3, n=2)
for name, ranks in (
    ("hilbertcurve:", [curve.distance_from_point(token) for token in tokens]),
    ("numpy-hilbert-curve:", encode(np.array(tokens), 2, 3)),
):
    different = len({int(rank) for rank in ranks})
    print(f"{name:20} {len(ranks)} tokens, {different} different ranks")
    assert different < len(tokens), "cells outside of the square are told apart or refused now"
PY
