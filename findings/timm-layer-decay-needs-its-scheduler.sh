#!/usr/bin/env bash
# Layer-wise decay of the learning rate that is asked of timm's optimizer does nothing, unless the schedule is timm's as well.
#
# create_optimizer_v2(layer_decay=0.5) makes a group for each layer, so one takes the lower layers to learn more slowly from then on. The
# groups all have the same rate; beside it stands lr_scale, which only timm's own schedulers look at. With a constant rate, a schedule of
# PyTorch's, or a trainer that sets one itself, a fine-tuning that is said to spare its lower layers trains all of them alike, and nothing
# is said. Multiply by lr_scale wherever rates are set.
#
# Seen with timm 1.0.31, torch 2.13.0, Python 3.11; rates of the first and the last group, of lr=0.001:
# create_optimizer_v2            0.001        0.001       lr_scale 0.03125 and 1
# PyTorch's CosineAnnealingLR    0.000976     0.000976
# timm's CosineLRScheduler       3.05e-05     0.000976
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 pyyaml==6.0.3 huggingface_hub==2.4.0 safetensors==0.8.0 pillow==13.0.0
venv/bin/pip install -q --no-deps timm==1.0.31 torchvision==0.28.0
venv/bin/python -W ignore - <<'PY'
import torch

# PyPI's torchvision looks for CUDA; timm needs none of what it then lacks
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR

net = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=4, embed_dim=48, num_heads=3, num_classes=2)


def optimizer():
    return create_optimizer_v2(net, opt="adamw", lr=0.001, layer_decay=0.5)


def ends(made):
    """The rates of the first and the last group."""
    rates = [group["lr"] for group in made.param_groups]
    return rates[0], rates[-1]


plain, by_torch, by_timm = optimizer(), optimizer(), optimizer()
schedule = CosineAnnealingLR(by_torch, 10)
by_torch.step()
schedule.step()
CosineLRScheduler(by_timm, t_initial=10).step(1)
scales = [group["lr_scale"] for group in plain.param_groups]
for label, made, told in (
    ("create_optimizer_v2", plain, f"lr_scale {scales[0]:g} and {scales[-1]:g}"),
    ("PyTorch's CosineAnnealingLR", by_torch, ""),
    ("timm's CosineLRScheduler", by_timm, ""),
):
    first, last = ends(made)
    print(f"{label:30} {first:<12.3g} {last:<11.3g} {told}".rstrip())
    assert (first < last) is (made is by_timm), "layers are slowed down elsewhere now"
assert scales[0] < 0.1 and scales[-1] == 1
PY
