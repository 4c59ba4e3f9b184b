#!/usr/bin/env bash
# A scan order that a network computes when it is made comes back from Transformers' from_pretrained as whatever lay in memory.
#
# A table that follows from the configuration, such as the order in which tokens are scanned, is registered with persistent=False, so that
# it is in no file, and PyTorch makes it anew with the network. In version 5 from_pretrained makes the network on the meta device, fills it
# from the file, and gives memory without values to the buffers that are in none. The network loads, with its weights right, and scans in no
# order at all; nothing is said of the table. Keep the table as plain numbers, from which forward makes a tensor, or set it again in
# _init_weights.
#
# Seen with transformers 5.24.0, torch 2.13.0, Python 3.11; after save_pretrained and from_pretrained:
# weights                      kept
# buffer in the file           kept
# buffer in no file            lost
# list of numbers              kept
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 transformers==5.24.0 numpy==2.4.6
HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 venv/bin/python - 2> said <<'PY' || { cat said; exit 1; }
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel


class Config(PreTrainedConfig):
    model_type = "scans"


class Net(PreTrainedModel):
    """A layer and the order in which 64 tokens are read: backwards."""

    config_class = Config

    def __init__(self, config):
        super().__init__(config)
        self.layer = nn.Linear(4, 4)
        self.register_buffer("written", torch.arange(64).flip(0))
        self.register_buffer("computed", torch.arange(64).flip(0), persistent=False)
        self.plain = list(range(63, -1, -1))
        self.post_init()


made = Net(Config())
made.save_pretrained("saved")
read = Net.from_pretrained("saved")
PARTS = {
    "weights": (made.layer.weight, read.layer.weight, True),
    "buffer in the file": (made.written, read.written, True),
    "buffer in no file": (made.computed, read.computed, False),
    "list of numbers": (torch.tensor(made.plain), torch.tensor(read.plain), True),
}
for label, (before, after, kept) in PARTS.items():
    same = torch.equal(before, after)
    print(f"{label:28} {'kept' if same else 'lost'}")
    assert same is kept, "tables come back otherwise now"
PY
if grep -q computed said; then echo "it is told now"; exit 1; fi
