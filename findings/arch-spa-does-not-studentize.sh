#!/usr/bin/env bash
# A network that is better beyond doubt is not found by arch's SPA test once a noisy one is compared too; studentize=True does nothing.
#
# Hansen's test of many models against one benchmark divides every difference by its spread, so that a rival of large losses does not
# drown the others. arch has `studentize`, True by default, prints "asymptotic" for it, and computes the same numbers with True, False and
# nested=True: the spread decides only which models are hopeless. The largest of the differences as they are is taken, in which the noisy
# rival wins every draw. StepM, which is built on it, finds nothing either. Leave wild models out, or scale the differences yourself.
#
# Seen with arch 8.0.0, numpy 2.4.6, Python 3.11; losses in 500 images, the better one is lower by 0.2, the spread of the wild one is 50:
# rivals of the benchmark  studentize: True  False  True and nested  divided by the spread  StepM finds
# better                   0.000             0.000  0.000            0.000                  better
# better and wild          0.510             0.510  0.510            0.000                  none
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q numpy==2.4.6 scipy==1.17.1 pandas==2.3.3 statsmodels==0.15.0 arch==8.0.0
venv/bin/python -W ignore - <<'PY'
import numpy as np
from arch.bootstrap import SPA, StationaryBootstrap, StepM

IMAGES, REPEATS = 500, 500
rng = np.random.default_rng(0)
benchmark = rng.normal(1, 0.5, IMAGES)
RIVALS = {
    "better": benchmark - 0.2 + rng.normal(0, 0.3, IMAGES),
    "wild": benchmark + rng.normal(0, 50, IMAGES),
}


def by_spa(rivals, **options):
    test = SPA(benchmark, rivals, seed=0, reps=REPEATS, **options)
    test.compute()
    return float(test.pvalues["consistent"])


def by_hand(rivals):
    """p-value of the largest mean difference, each divided by its standard error."""
    gains = benchmark[:, None] - rivals
    gains = gains / gains.std(axis=0)
    draws = StationaryBootstrap(int(np.sqrt(IMAGES)), gains - gains.mean(axis=0), seed=0).apply(lambda x: x.mean(0), REPEATS)
    return float((draws.max(axis=1) > gains.mean(axis=0).max()).mean())


def by_steps(rivals):
    test = StepM(benchmark, rivals, seed=0, reps=REPEATS)
    test.compute()
    return test.superior_models


print("rivals of the benchmark  studentize: True  False  True and nested  divided by the spread  StepM finds")
for names in (["better"], ["better", "wild"]):
    rivals = np.stack([RIVALS[name] for name in names], axis=1)
    told = [by_spa(rivals), by_spa(rivals, studentize=False), by_spa(rivals, nested=True)]
    mine, found = by_hand(rivals), [names[index] for index in by_steps(rivals)]
    print(f"{' and '.join(names):24} {told[0]:<17.3f} {told[1]:<6.3f} {told[2]:<16.3f} {mine:<22.3f} {', '.join(found) or 'none'}")
    assert told[0] == told[1] and abs(told[0] - told[2]) < 0.1, "arch studentizes now"
    assert (told[0] > 0.1) == ("wild" in names) and mine < 0.01 and (found == ["better"]) == (names == ["better"]), "arch compares otherwise now"
PY
