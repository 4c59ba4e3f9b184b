#!/usr/bin/env bash
# One network whose accuracy is NaN takes every larger network, however good, off the Pareto front of DEAP.
#
# A training that diverged has an accuracy of NaN and a size as any other. NaN is neither better nor worse, so DEAP compares by size
# alone: the failed network "dominates" all that are larger. If it is the smallest, it is the whole front and empties the archive of the
# search. If a smaller one is there, the front of sortNondominated looks sound, without the failed network and without the best ones.
# Fitness.valid says True throughout. Leave out what failed before networks are compared, or give it the worst accuracy, not NaN.
#
# Seen with DEAP 1.4.4, numpy 2.4.6, Python 3.11; accuracy 0.80 with 4 million parameters (tiny), 0.85 with 6 (small), 0.90 with 9 (base):
# the failed one has   first front           archive
# not been there       tiny small base       tiny small base
# 20 million           tiny small base       tiny small base
#  5 million           tiny                  tiny failed
#  3 million           failed                failed
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q deap==1.4.4 numpy==2.4.6
venv/bin/python - <<'PY'
import math

from deap import base, creator, tools

creator.create("Goals", base.Fitness, weights=(1.0, -1.0))  # more accuracy, fewer parameters
creator.create("Network", dict, fitness=creator.Goals)


def network(name, accuracy, size):
    """A network as DEAP keeps it, with its accuracy and its millions of parameters."""
    made = creator.Network(name=name)
    made.fitness.values = (accuracy, size)
    return made


def names(networks):
    """The names of the networks in one order."""
    found = {made["name"] for made in networks}
    return " ".join(name for name in ("tiny", "small", "base", "failed") if name in found)


sound = "tiny small base"
print(f"{'the failed one has':20} {'first front':21} archive")
for label, size, *expected in (
    ("not been there", None, sound, sound),
    ("20 million", 20.0, sound, sound),
    (" 5 million", 5.0, "tiny", "tiny failed"),
    (" 3 million", 3.0, "failed", "failed"),
):
    networks = [network("tiny", 0.80, 4.0), network("small", 0.85, 6.0), network("base", 0.90, 9.0)]
    if size is not None:
        networks.append(network("failed", math.nan, size))
    assert all(made.fitness.valid for made in networks), "NaN is no valid fitness any more"
    archive = tools.ParetoFront()
    archive.update(networks)
    front = names(tools.sortNondominated(networks, len(networks))[0])
    print(f"{label:20} {front:21} {names(archive)}")
    assert [front, names(archive)] == expected, "DEAP compares NaN otherwise now"
PY
