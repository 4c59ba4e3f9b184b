#!/usr/bin/env bash
# Nine of ten pixels that are to be ignored make the loss of the tenth a tenth, in two losses of segmentation-models-pytorch.
#
# SoftCrossEntropyLoss and SoftBCEWithLogitsLoss are called drop-in replacements of PyTorch's, with ignore_index. The ignored pixels add
# nothing, but the mean is still divided by them. Sparse labels train with a fraction of the learning rate that was meant, the more padding
# a batch has the less it counts, and beside another loss in a sum the weights are not what was written. FocalLoss of the same library
# leaves ignored pixels out, as PyTorch does. Take PyTorch's cross_entropy, or reduction="sum" and divide by the pixels that count.
#
# Seen with segmentation-models-pytorch 0.6.0, PyTorch 2.13.0, Python 3.11; an answer that is unsure in every pixel, two classes:
# ignored  PyTorch's cross-entropy  SoftCrossEntropyLoss  SoftBCEWithLogitsLoss  FocalLoss, gamma=0
# 0 %      0.693                    0.693                 0.693                  0.693
# 50 %     0.693                    0.347                 0.347                  0.693
# 90 %     0.693                    0.069                 0.069                  0.693
# 99 %     0.693                    0.007                 0.007                  0.693
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
from segmentation_models_pytorch.losses import FocalLoss, SoftBCEWithLogitsLoss, SoftCrossEntropyLoss
from torch.nn.functional import cross_entropy

IGNORED, SIDE = 255, 10
two, one = torch.zeros(1, 2, SIDE, SIDE), torch.zeros(1, 1, SIDE, SIDE)  # logits
print("ignored  PyTorch's cross-entropy  SoftCrossEntropyLoss  SoftBCEWithLogitsLoss  FocalLoss, gamma=0")
for percent in (0, 50, 90, 99):
    truth = torch.arange(SIDE**2).reshape(1, SIDE, SIDE) % 2
    truth.view(-1)[:percent] = IGNORED
    seen = (
        cross_entropy(two, truth, ignore_index=IGNORED),
        SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=IGNORED)(two, truth),
        SoftBCEWithLogitsLoss(ignore_index=IGNORED)(one, truth[:, None].float()),
        FocalLoss("binary", gamma=0.0, ignore_index=IGNORED)(one, truth[:, None].float()),
    )
    print(f"{f'{percent} %':8} {seen[0]:<24.3f} {seen[1]:<21.3f} {seen[2]:<22.3f} {seen[3]:.3f}")
    thin, full = (1 - percent / 100) * 0.693, 0.693
    assert all(abs(loss - of) < 0.001 for loss, of in zip(seen, (full, thin, thin, full), strict=True)), "ignored pixels count otherwise now"
PY
