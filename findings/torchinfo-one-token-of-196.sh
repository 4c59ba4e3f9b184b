#!/usr/bin/env bash
# torchinfo counts a Linear over 196 tokens as over one: written with Linear, a network seems 196 times cheaper than with 1 x 1 convolutions.
#
# Its total of multiply-adds multiplies the weights by all positions if "Conv" is in the name of the class, and by the batch alone
# otherwise. In a Transformer or a state-space model nearly all work is Linear over tokens, so nearly all is missing, and a table that
# compares it with a convolutional network is wrong by two orders. Nothing warns. What a module computes with parameters of its own, such
# as a scan, is not in the total either. Count with torch.utils.flop_counter, and compare counts of one tool only.
#
# Seen with torchinfo 1.8.0, PyTorch 2.13.0, Python 3.11; 192 to 384 channels at 14 x 14 positions, millions of multiply-adds:
# layer              torchinfo   PyTorch
# 1 x 1 convolution  14.45       14.45
# Linear             0.07        14.45
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 torchinfo==1.8.0
venv/bin/python -W ignore - <<'PY'
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchinfo import summary

cases = {
    "1 x 1 convolution": (nn.Conv2d(192, 384, 1, bias=False), torch.randn(1, 192, 14, 14)),
    "Linear": (nn.Linear(192, 384, bias=False), torch.randn(1, 196, 192)),
}
print(f"{'layer':18} torchinfo   PyTorch")
for name, (layer, images) in cases.items():
    told = summary(layer, input_data=images, verbose=0).total_mult_adds
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(images)
    true = counter.get_total_flops() // 2
    print(f"{name:18} {told / 1e6:<11.2f} {true / 1e6:.2f}")
    assert true == 192 * 384 * 196
    assert told == (true if name != "Linear" else true // 196), "torchinfo counts tokens now"
PY
