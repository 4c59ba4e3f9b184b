#!/usr/bin/env bash
# A network's calibration error by torchmetrics goes from 0.026 to 0.074 as its surest logits go from 16 to 20: ten bins are eleven.
#
# Images are put into n_bins bins by how sure the network is, and the last one should go up to 1. torchmetrics opens one more for those
# that are exactly 1, and in float32 a softmax is exactly 1 as soon as a logit leads by 17: in a trained network that may be most images.
# Being right too seldom there and too often just below then add up, where in one bin, as in the definition of Guo et al., they
# balance. So errors before and after a temperature, or of binary answers in float32 and float64, are of different numbers of bins;
# answers of several classes become float32 first. Clip the probabilities just below 1: clamp(max=0.999999).
#
# Seen with torchmetrics 1.9.0, torch 2.13.0, Python 3.11; 100 images, of which a half is surer, right in 90 %, the others in 100 %;
# expected error with n_bins=10:
# a logit leads by   dtype      definition   binary   of classes
# 16 and 3           float32    0.026        0.026    0.026
# 20 and 3           float32    0.026        0.074    0.074
# 20 and 3           float64    0.026        0.026    0.074
# 20 and 3, clipped  float32    0.026        0.026    0.026
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 packaging==26.4 lightning-utilities==0.15.3
venv/bin/pip install -q --no-deps torchmetrics==1.9.0
venv/bin/python -W ignore - <<'PY'
import torch
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

labels = torch.tensor([1] * 45 + [0] * 5 + [1] * 50)


def errors(name, lead, dtype, most=1.0):
    logits = torch.zeros(100, 2, dtype=dtype)
    logits[:50, 1], logits[50:, 1] = lead, 3
    answers = logits.softmax(1).clamp(max=most)
    sure = answers[:, 1]
    assert sure.min() > 0.9  # one bin holds all of them
    definition = (sure.double().mean() - labels.double().mean()).abs().item()
    two = binary_calibration_error(sure, labels, n_bins=10).item()
    several = multiclass_calibration_error(answers, labels, num_classes=2, n_bins=10).item()
    print(f"{name:18} {str(dtype)[6:]:10} {definition:.3f}        {two:.3f}    {several:.3f}")
    return two / definition, several / definition


print("a logit leads by   dtype      definition   binary   of classes")
small = errors("16 and 3", 16, torch.float32)
certain = errors("20 and 3", 20, torch.float32)
double = errors("20 and 3", 20, torch.float64)
clipped = errors("20 and 3, clipped", 20, torch.float32, 0.999999)
for ratio in (*small, double[0], *clipped):
    assert abs(ratio - 1) < 1e-3
for ratio in (*certain, double[1]):
    assert ratio > 2.5, "answers that are certain share the last bin now"
PY
