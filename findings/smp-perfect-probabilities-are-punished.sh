#!/usr/bin/env bash
# A perfect answer has a loss of 0.87 in segmentation-models-pytorch, where 19 classes come as probabilities and it was told so.
#
# from_logits=False says that the network ends in a softmax already. LovaszLoss takes the argument and forgets it: it applies a softmax all
# the same, and of 1 among 19 classes 0.13 is left. FocalLoss takes the logarithm of a probability for the logit of a sigmoid, so that a
# sure class counts as an even bet. DiceLoss and JaccardLoss follow it. Such networks train on, with gradients that never let go of
# what is right already, and nothing is said. Hand logits to these two: take the softmax out of the network, or log() its output for Lovasz.
#
# Seen with segmentation-models-pytorch 0.6.0, PyTorch 2.13.0, Python 3.11; loss of the truth itself, as probabilities and as logits:
# loss          classes  probabilities, from_logits=False  logits  log of the probabilities as logits
# DiceLoss      2        0.000                             0.000   0.000
# DiceLoss      19       0.000                             0.000   0.000
# JaccardLoss   2        0.000                             0.000   0.000
# JaccardLoss   19       0.000                             0.000   0.000
# LovaszLoss    2        0.269                             0.000   0.000
# LovaszLoss    19       0.869                             0.000   0.000
# FocalLoss     2        0.087                             0.000   0.087
# FocalLoss     19       0.009                             0.000   0.009
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/pip install -q --no-deps segmentation-models-pytorch==0.6.0  # its losses need PyTorch alone
venv/bin/python -W ignore - <<'PY'
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

package = ModuleType("segmentation_models_pytorch")  # without its __init__, which asks for timm
package.__path__ = [str(Path(sysconfig.get_path("purelib")) / "segmentation_models_pytorch")]
sys.modules[package.__name__] = package

import torch
from segmentation_models_pytorch import losses

print("loss          classes  probabilities, from_logits=False  logits  log of the probabilities as logits")
for name, follows in (("DiceLoss", True), ("JaccardLoss", True), ("LovaszLoss", False), ("FocalLoss", False)):
    for classes in (2, 19):
        truth = torch.arange(400).reshape(1, 20, 20) % classes
        perfect = torch.nn.functional.one_hot(truth, classes).permute(0, 3, 1, 2).float()
        kind = getattr(losses, name)
        as_told = kind("multiclass", from_logits=False)(perfect, truth)
        of_logits = kind("multiclass")(100 * perfect - 50, truth)
        of_logs = kind("multiclass")(perfect.clamp_min(1e-30).log(), truth)
        print(f"{name:13} {classes:<8} {as_told:<33.3f} {of_logits:<7.3f} {of_logs:.3f}")
        assert of_logits < 0.001 and (as_told < 0.001) == follows, "a perfect answer is judged otherwise now"
PY
