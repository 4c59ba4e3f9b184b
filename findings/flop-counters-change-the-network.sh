#!/usr/bin/env bash
# Four libraries that count the operations of a network leave it changed, each in another way, and what is trained after is another network.
#
# A line that prints parameters and operations stands before the training in many scripts. thop and torchinfo put the network back into
# training mode as a whole, so that frozen norms of a pre-trained backbone learn again; thop leaves two entries in state_dict, too, which
# no other network of the class loads. ptflops leaves all in evaluation mode: training goes on without dropout. fvcore runs its example,
# one image of noise, through norms that are learning. Count on a copy.
#
# Seen with thop 0.1.1.post2209072238, ptflops 0.7.5, torchinfo 1.8.0, fvcore 0.1.5.post20221221, PyTorch 2.13.0, Python 3.11. Before: the
# network and its first norm train, its second norm is frozen:
# thop       the frozen norm trains, state_dict has total_ops, total_params
# torchinfo  the frozen norm trains
# ptflops    the network does not train
# fvcore     the statistics of the first norm moved
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 thop==0.1.1.post2209072238 ptflops==0.7.5 torchinfo==1.8.0 fvcore==0.1.5.post20221221
venv/bin/python -W ignore - <<'PY'
import logging

import ptflops
import thop
import torch
import torchinfo
from fvcore.nn import FlopCountAnalysis
from torch import nn

logging.disable(logging.WARNING)


class Net(nn.Module):
    """Two convolutions with a norm each; the second norm is frozen, as those of a pre-trained backbone."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
        self.layers[4].eval()

    def forward(self, images):
        return self.layers(images)


COUNTERS = {
    "thop": (lambda net: thop.profile(net, inputs=(torch.randn(1, 3, 8, 8),), verbose=False), {"unfrozen", "entries"}),
    "torchinfo": (lambda net: torchinfo.summary(net, input_size=(1, 3, 8, 8), verbose=0), {"unfrozen"}),
    "ptflops": (
        lambda net: ptflops.get_model_complexity_info(net, (3, 8, 8), print_per_layer_stat=False, backend="pytorch"), {"stopped"},
    ),
    "fvcore": (lambda net: FlopCountAnalysis(net, torch.randn(1, 3, 8, 8)).total(), {"moved"}),
}
for name, (count, expected) in COUNTERS.items():
    torch.manual_seed(0)
    net = Net()
    learning, frozen = net.layers[1], net.layers[4]
    entries, mean = set(net.state_dict()), learning.running_mean.clone()
    count(net)
    more = sorted(set(net.state_dict()) - entries)
    found = {
        "stopped": "the network does not train" * (not (net.training and learning.training)),
        "unfrozen": "the frozen norm trains" * frozen.training,
        "entries": f"state_dict has {', '.join(more)}" * bool(more),
        "moved": "the statistics of the first norm moved" * (not torch.equal(mean, learning.running_mean)),
    }
    print(f"{name:10} {', '.join(filter(None, found.values()))}")
    assert {change for change, told in found.items() if told} == expected, "the counters leave networks otherwise now"
PY
