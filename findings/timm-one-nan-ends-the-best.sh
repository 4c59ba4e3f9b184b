#!/usr/bin/env bash
# After one epoch whose metric is NaN, timm keeps no better network any more: an early one stays the best, and later ones are not saved.
#
# CheckpointSaver keeps the best max_history networks, in order. A metric that is NaN once, a loss in an epoch that overflowed, or a mean
# over a class that no validation image had, takes a place in that list. Once the list is full, each new network is compared with the worst
# of it, NaN: it is never better, is thrown away, and the best is not looked at. The training recovers, the log shows it, and model_best is
# of the epochs before. Give the worst number in place of NaN.
#
# Seen with timm 1.0.31, torch 2.13.0, Python 3.11; max_history=2, accuracy by epochs and what is called the best:
# 0.5 0.6 0.9 0.8      best 0.9 of epoch 2
# 0.5 nan 0.9 0.8      best 0.5 of epoch 0
# nan 0.6 0.9 0.8      best nan of epoch 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 pyyaml==6.0.3 huggingface_hub==2.4.0 safetensors==0.8.0 pillow==13.0.0
venv/bin/pip install -q --no-deps timm==1.0.31 torchvision==0.28.0
venv/bin/python -W ignore - <<'PY'
import logging
import math
import pathlib
from types import SimpleNamespace

import torch
from torch import nn

# PyPI's torchvision looks for CUDA; timm needs none of what it then lacks
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from timm.utils import CheckpointSaver

logging.disable(logging.CRITICAL)
RUNS = (([0.5, 0.6, 0.9, 0.8], 2), ([0.5, math.nan, 0.9, 0.8], 0), ([math.nan, 0.6, 0.9, 0.8], 0))
for number, (accuracies, expected) in enumerate(RUNS):
    folder = pathlib.Path(f"run{number}")
    folder.mkdir()
    net = nn.Linear(2, 2)
    saver = CheckpointSaver(
        net, torch.optim.SGD(net.parameters(), lr=0.1), args=SimpleNamespace(model="net"), checkpoint_dir=str(folder), max_history=2
    )
    for epoch, accuracy in enumerate(accuracies):
        best, where = saver.save_checkpoint(epoch, metric=accuracy)
    saved = torch.load(folder / "model_best.pth.tar", weights_only=False)["epoch"]
    print(f"{' '.join(f'{accuracy:g}' for accuracy in accuracies):20} best {best:g} of epoch {saved}")
    assert where == saved == expected, "NaN is compared otherwise now"
PY
