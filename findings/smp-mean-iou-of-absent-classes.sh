#!/usr/bin/env bash
# A network that is wrong in every pixel has a mean IoU of 0.99 by segmentation-models-pytorch, where the data have 150 classes.
#
# Of a class that is neither in the truth nor in the answer IoU is 0 / 0. torchmetrics and benchmarks leave such classes out of the mean;
# here iou_score counts them as 1 (zero_division=1.0). Image by image, as "macro-imagewise" averages, nearly all of 150 classes are
# absent, and over a whole set those that a small test set lacks. So the figure begins near 1 and hardly moves, and two data sets differ
# by their numbers of classes. Take "micro", or another library.
#
# Seen with segmentation-models-pytorch 0.6.0, torchmetrics 1.9.0, PyTorch 2.13.0, Python 3.11; truth: class 0, answer: class 1, everywhere:
# classes  macro   macro-imagewise  micro   torchmetrics' MulticlassJaccardIndex
# 2        0.0000  0.0000           0.0000  0.0000
# 20       0.9000  0.9000           0.0000  0.0000
# 150      0.9867  0.9867           0.0000  0.0000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 torchmetrics==1.9.0
venv/bin/pip install -q --no-deps segmentation-models-pytorch==0.6.0  # its metrics need PyTorch alone
venv/bin/python -W ignore - <<'PY'
import importlib.util
import sysconfig
from pathlib import Path

import torch
from torchmetrics.classification import MulticlassJaccardIndex

file = Path(sysconfig.get_path("purelib")) / "segmentation_models_pytorch" / "metrics" / "functional.py"
spec = importlib.util.spec_from_file_location("metrics", file)
metrics = importlib.util.module_from_spec(spec)
spec.loader.exec_module(metrics)

truth = torch.zeros(4, 8, 8, dtype=torch.long)
answer = torch.ones_like(truth)
print("classes  macro   macro-imagewise  micro   torchmetrics' MulticlassJaccardIndex")
for classes, expected in ((2, 0.0), (20, 0.9), (150, 0.9867)):
    counts = metrics.get_stats(answer, truth, mode="multiclass", num_classes=classes)
    seen = [float(metrics.iou_score(*counts, reduction=how)) for how in ("macro", "macro-imagewise", "micro")]
    other = float(MulticlassJaccardIndex(num_classes=classes)(answer, truth))
    print(f"{classes:<8} {seen[0]:.4f}  {seen[1]:.4f}           {seen[2]:.4f}  {other:.4f}")
    assert [round(value, 4) for value in seen] == [expected, expected, 0.0] and other == 0, "absent classes count otherwise now"
PY
