#!/usr/bin/env bash
# PyTorch's own counter of operations finds 65 times the forward pass in the backward pass of a depthwise convolution of 64 channels.
#
# The backward pass of a layer costs twice its forward pass, and a dense convolution is counted so. For the gradient of a depthwise weight
# FlopCounterMode takes every pair of channels, as if groups were 1: with D channels the backward pass comes out 1 + D times the forward
# pass. Networks with a depthwise convolution in every block (Mamba, ConvNeXt, MobileNet) then seem to train at a multiple of their
# cost, and a utilisation worked out from it goes above what the device has. Count depthwise layers by hand, or forward passes only.
#
# Seen with PyTorch 2.13.0, Python 3.11; 100 tokens, kernels of 3:
# channels  dense: forward, backward           depthwise: forward, backward
# 16        153600, 307200 (2 times)           9600, 163200 (17 times)
# 64        2457600, 4915200 (2 times)         38400, 2496000 (65 times)
# 256       39321600, 78643200 (2 times)       153600, 39475200 (257 times)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def counted(layer, channels):
    """The operations of a forward and of a backward pass, where the tokens take a gradient too."""
    tokens = torch.randn(1, channels, 100, requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        out = layer(tokens)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


print(f"{'channels':9} {'dense: forward, backward':34} depthwise: forward, backward")
for channels in (16, 64, 256):
    told = []
    for groups, times in ((1, 2), (channels, 1 + channels)):
        forward, backward = counted(nn.Conv1d(channels, channels, 3, padding=1, groups=groups), channels)
        told.append(f"{forward}, {backward} ({backward // forward} times)")
        assert backward == times * forward, "gradients are counted otherwise now"
    print(f"{channels:<9} {told[0]:34} {told[1]}")
PY
