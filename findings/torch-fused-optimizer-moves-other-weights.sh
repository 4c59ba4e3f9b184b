#!/usr/bin/env bash
# Of a weight that was cropped from a larger one, a fused optimizer on the CPU trains a part, and moves numbers beside it instead of the rest.
#
# nn.Parameter(weight[:, :1]) is how a network for RGB is made to take grey images; its numbers lie apart in memory. fused=True on the CPU
# walks through parameter, gradient and moments as they lie in memory and asks for no layout, so values of different weights meet. It is
# the same where the moments of a checkpoint lie otherwise than the weights, as after network.to(memory_format=torch.channels_last).
# Nothing is said. Lay what is cropped anew with .contiguous(), and moments like their weights; plain and foreach optimizers go by index,
# and are right. Transformers' Trainer takes fused AdamW by default.
#
# Seen with PyTorch 2.13.0, Python 3.11; weights that are after a step what the plain optimizer makes of them:
# optimizer  weights                          fused       foreach
# SGD        of their own                     36 of 36    36 of 36
# SGD        cropped                          9 of 36     36 of 36
# AdamW      cropped                          17 of 36    36 of 36
# AdamW      channels_last, loaded moments    12 of 108   108 of 108
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import torch
from torch import nn

OUT, CHANNELS, SIDE = 4, 3, 3
LAST = torch.channels_last


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def of_their_own():
    return nn.Parameter(drawn(OUT, 1, SIDE, SIDE, seed=0)), None


def cropped():
    return nn.Parameter(drawn(OUT, CHANNELS, SIDE, SIDE, seed=0)[:, :1]), None


def loaded():
    """Weights in channels_last, and the optimizer's state of a step before, when they were not."""
    weight = nn.Parameter(drawn(OUT, CHANNELS, SIDE, SIDE, seed=0))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    step(weight, optimizer, seed=1)
    return nn.Parameter(weight.detach().to(memory_format=LAST)), optimizer.state_dict()["state"]


def step(weight, optimizer, seed):
    (weight * drawn(*weight.shape, seed=seed)).sum().backward()
    optimizer.step()


def trained(kind, make, how):
    weight, moments = make()
    optimizer = kind([weight], lr=0.1, **how)
    if moments is not None:
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    step(weight, optimizer, seed=2)
    return weight.detach()


CASES = (
    ("SGD", torch.optim.SGD, "of their own", of_their_own, 36, 36),
    ("SGD", torch.optim.SGD, "cropped", cropped, 9, 36),
    ("AdamW", torch.optim.AdamW, "cropped", cropped, 17, 36),
    ("AdamW", torch.optim.AdamW, "channels_last, loaded moments", loaded, 12, 108),
)
print("optimizer  weights                          fused       foreach")
for name, kind, what, make, fused, count in CASES:
    plain = trained(kind, make, {"foreach": False})
    seen = [int(torch.isclose(trained(kind, make, {how: True}), plain).sum()) for how in ("fused", "foreach")]
    cells = [f"{right} of {plain.numel()}" for right in seen]
    print(f"{name:10} {what:32} {cells[0]:11} {cells[1]}")
    assert seen == [fused, count], "fused optimizers move other weights now"
PY
