#!/usr/bin/env bash
# A layer that is computed again in the backward pass drops other values there, if its dropout draws from a generator of its own.
#
# torch.utils.checkpoint saves memory by computing a layer twice and puts the random numbers back for the second time, so that a mask comes
# out alike. It puts back PyTorch's global generators only. A mask from a torch.Generator that the network owns, as one has it for draws
# that can be repeated, goes on: the loss is that of one mask, the gradient that of another, of the same shape, so that the check of what
# was computed again finds nothing. The training goes on, with gradients that are partly of other paths. Draw the mask outside and hand it
# in, or draw it from numbers that are a function of the sample and the step.
#
# Seen with torch 2.13.0, Python 3.11; values kept of eight ones, forward and in the gradient:
# global generator, plain            01000101 01000101
# global generator, recomputed       01000101 01000101
# own generator, plain               01000101 01000101
# own generator, recomputed          01000101 01000001
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python -W error - <<'PY'
import torch
from torch.utils.checkpoint import checkpoint


def drop(values, generator):
    """Keep half of the values."""
    return values * (torch.rand(len(values), generator=generator) > 0.5)


def bits(values):
    return "".join(str(int(value)) for value in values.tolist())


for label, own in (("global generator", False), ("own generator", True)):
    for way, recomputed in (("plain", False), ("recomputed", True)):
        generator = torch.Generator() if own else torch.default_generator
        generator.manual_seed(0)
        values = torch.ones(8, requires_grad=True)
        kept = checkpoint(drop, values, generator, use_reentrant=False) if recomputed else drop(values, generator)
        kept.sum().backward()
        print(f"{f'{label}, {way}':34} {bits(kept.detach())} {bits(values.grad)}")
        assert torch.equal(kept.detach(), values.grad) is not (own and recomputed), "masks are drawn otherwise now"
PY
