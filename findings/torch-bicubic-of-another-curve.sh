#!/usr/bin/env bash
# antialias=True makes PyTorch enlarge an image by another curve, although there is nothing to antialias: 0.035 of white and black apart.
#
# Antialiasing widens the filter where an image shrinks; where it grows, the argument should change nothing, and with mode="bilinear" it does
# not. With mode="bicubic" it also exchanges the cubic: a = -3/4 without it (as OpenCV), a = -1/2 with it (as Pillow), whose edges overshoot
# less. Where a network resizes its position embeddings with it and an export or a port without, they differ at every size but that of
# training. Say antialias at both ends, and take a = -1/2 where tables are computed for it.
#
# Seen with torch 2.13.0, Pillow 13.0.0, numpy 2.4.6, Python 3.11; eight pixels, one of them white, enlarged:
#  8 to 16: bilinear, with and without 0.0000; bicubic, with and without 0.0352, Pillow and with 0.0000, lowest -0.1055 and -0.0703
#  8 to 32: bilinear, with and without 0.0000; bicubic, with and without 0.0366, Pillow and with 0.0000, lowest -0.1099 and -0.0732
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 pillow==13.0.0 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

image = torch.zeros(1, 1, 1, 8)
image[..., 4] = 1


def enlarged(mode, antialias, side):
    return interpolate(image, (1, side), mode=mode, antialias=antialias)


for side in (16, 32):
    linear = (enlarged("bilinear", True, side) - enlarged("bilinear", False, side)).abs().max().item()
    plain, smooth = enlarged("bicubic", False, side), enlarged("bicubic", True, side)
    of_pillow = np.asarray(Image.fromarray(image[0, 0].numpy()).resize((side, 1), Image.Resampling.BICUBIC))
    apart, beside = (plain - smooth).abs().max().item(), np.abs(smooth[0, 0].numpy() - of_pillow).max()
    told = f" 8 to {side}: bilinear, with and without {linear:.4f}; bicubic, with and without {apart:.4f}, "
    print(f"{told}Pillow and with {beside:.4f}, lowest {plain.min():.4f} and {smooth.min():.4f}")
    assert linear < 1e-6 and beside < 1e-5 and 0.03 < apart < 0.04, "images are enlarged otherwise now"
PY
