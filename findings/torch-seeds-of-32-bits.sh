#!/usr/bin/env bash
# Seeds that are 2**32 apart are one seed to PyTorch on the CPU: torch.manual_seed(run << 32) gives all runs the same numbers.
#
# Seeds up to 2**64 are taken, initial_seed() gives them back whole, and a larger one is an error, so one expects 64 bits to count. The
# generator is filled from the lower 32 alone. Whoever packs study and run into the two halves of a number, or takes the first eight bytes
# of a hash that differ in the upper ones, trains one network again and again; and of 65,000 seeds that are drawn from 64 bits, two are
# likely to be the same. Keep what varies in the lower 32 bits, and compare first numbers where runs must differ.
#
# Seen with PyTorch 2.13.0, Python 3.11; seeds whose first numbers are equal:
# 7                = 7 + 2**32         initial_seed: 7 and 4294967303
# 1 << 32          = 2 << 32
# 7                differs from 8
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import torch


def drawn(seed):
    """The first numbers of a seed, and the seed that the generator says it has."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(8, generator=generator).tolist(), generator.initial_seed()


for first, second, same in (("7", "7 + 2**32", True), ("1 << 32", "2 << 32", True), ("7", "8", False)):
    (one, told), (other, also) = drawn(eval(first)), drawn(eval(second))
    names = f"         initial_seed: {told} and {also}" if "+" in second else ""
    print(f"{first:16} {'=' if one == other else 'differs from'} {second}{names}")
    assert told != also
    assert (one == other) == same, "PyTorch reads another part of the seed now"
PY
