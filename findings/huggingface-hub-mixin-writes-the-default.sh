#!/usr/bin/env bash
# A network that was made with rate=np.float32(0.5) is saved by the mixin of huggingface_hub with "rate": 0.1, the default, and read so.
#
# PyTorchModelHubMixin notes the arguments of a network in config.json, to make it anew in from_pretrained. What JSON cannot hold, a number
# of NumPy, a tensor, a dtype or a set, is left out, one would think, or refused; the default of the constructor is written in its place.
# The file states what was never so, the weights fit, and the network answers otherwise. A float64 of NumPy is taken, since it is a float of
# Python. Hand in plain numbers, text and lists.
#
# Seen with huggingface_hub 2.4.0, safetensors 0.8.0, torch 2.13.0, Python 3.11:
# made with             config.json     read as
# 0.5                   0.5             0.5
# np.float64(0.5)       0.5             0.5
# np.float32(0.5)       0.1             0.1
# tensor(0.5000)        0.1             0.1
# torch.bfloat16        0.1             0.1
# {0.5}                 0.1             0.1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 huggingface_hub==2.4.0 safetensors==0.8.0 numpy==2.4.6
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PY'
import contextlib
import json
import os
import pathlib

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn


class Net(nn.Module, PyTorchModelHubMixin):
    def __init__(self, rate=0.1):
        super().__init__()
        self.layer, self.rate = nn.Linear(2, 2), rate


KEPT = (0.5, np.float64(0.5))
LOST = (np.float32(0.5), torch.tensor(0.5), torch.bfloat16, {0.5})
print(f"{'made with':21} {'config.json':15} read as")
for number, value in enumerate(KEPT + LOST):
    folder = pathlib.Path(f"net{number}")
    Net(rate=value).save_pretrained(folder)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # it tells what it reads
        read = Net.from_pretrained(folder).rate
    written = json.loads((folder / "config.json").read_text())["rate"]
    print(f"{value!r:21} {written!r:15} {read!r}")
    assert (written, read) == ((0.5, 0.5) if number < len(KEPT) else (0.1, 0.1)), "arguments are noted otherwise now"
PY
