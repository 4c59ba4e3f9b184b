#!/usr/bin/env bash
# A dark image, restored with the same noise, has an SSIM of 0.81 by itself, and 0.87 if a bright image is in its batch, by torchmetrics.
#
# SSIM needs the range that pixels can have, 1 or 255. Where data_range is not given, torchmetrics takes the range of the values that are
# there: of all images of a batch together. So the score of an image hangs on its neighbours, that of a data set on the batch size, on
# shuffling and on how processes share it, and a short last batch is scored otherwise. The documentation says "from the data". The metric
# does not warn, and reduction="none" gives scores that look like those of single images. Say data_range=1.0.
#
# Seen with torchmetrics 1.9.0, torch 2.13.0, Python 3.11; a bright and a dark image, both with noise of 0.02:
# data_range  batches of  bright   dark     mean of the metric
# not given   1           0.997    0.809    0.903
# not given   2           0.997    0.871    0.934
# 1.0         1           0.997    0.871    0.934
# 1.0         2           0.997    0.871    0.934
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 packaging==26.4 lightning-utilities==0.15.3
venv/bin/pip install -q --no-deps torchmetrics==1.9.0
venv/bin/python -W ignore - <<'PY'
import torch
from torchmetrics.image import StructuralSimilarityIndexMeasure

torch.manual_seed(0)
images = torch.rand(2, 1, 64, 64) * torch.tensor([1.0, 0.1]).view(2, 1, 1, 1)
restored = (images + 0.02 * torch.randn_like(images)).clamp(0, 1)


def scores(size, **options):
    whole = StructuralSimilarityIndexMeasure(**options)
    single = []
    for first in range(0, 2, size):
        part = restored[first : first + size], images[first : first + size]
        whole.update(*part)
        single += StructuralSimilarityIndexMeasure(reduction="none", **options)(*part).reshape(-1).tolist()
    name = options.get("data_range", "not given")
    print(f"{name!s:11} {size:<11} {single[0]:.3f}    {single[1]:.3f}    {whole.compute().item():.3f}")
    return single


print("data_range  batches of  bright   dark     mean of the metric")
alone, together = scores(1), scores(2)
assert together[1] - alone[1] > 0.05, "each image has a range of its own now"
given, same = scores(1, data_range=1.0), scores(2, data_range=1.0)
assert all(abs(one - other) < 1e-4 for one, other in zip(given, same, strict=True))
PY
