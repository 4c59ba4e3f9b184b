#!/usr/bin/env bash
# A ViT of Transformers that was trained on wide images answers otherwise at that very size once interpolate_pos_encoding=True is passed.
#
# `image_size` may be (height, width), and the flag is there for images of other sizes. What it interpolates from is a square as large as
# the number of patches: 64 positions of 4 x 16 patches are read as 8 x 8, row after row, then stretched to 4 x 16, so that nearly every
# patch is told another place. It is an error only if the number is no square. DINOv2 interpolates always, in training too, unless the
# image is a square. Square images show none of it. Leave the flag out at the size of training, and resize the positions yourself.
#
# Seen with Transformers 5.24.0, PyTorch 2.13.0, Python 3.11; images of the size of training. Patches of 64 that are told
# the place where they are, and the mean distance from there to what they are told, in patches:
# network  patches  without the flag: right, off by  with it: right, off by
# ViT      8 x 8    64                      0.0      64             0.0
# ViT      4 x 16   64                      0.0      8              2.0
# DeiT     8 x 8    64                      0.0      64             0.0
# DeiT     4 x 16   64                      0.0      8              2.0
# ViTMSN   8 x 8    64                      0.0      64             0.0
# ViTMSN   4 x 16   64                      0.0      8              2.0
# IJepa    8 x 8    64                      0.0      64             0.0
# IJepa    4 x 16   64                      0.0      8              2.0
# Dinov2   8 x 8    64                      0.0      64             0.0
# Dinov2   4 x 16   8                       2.0      8              2.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 transformers==5.24.0
venv/bin/python -W ignore - <<'PY'
import torch
import transformers

PATCH = 16


def told(name, rows, columns, **flag):
    """Row and column of a patch as its position says, (rows, columns, 2), and what they are."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    kind = getattr(transformers, f"{name}Config")
    config = kind(image_size=(rows * PATCH, columns * PATCH), patch_size=PATCH, **sizes)
    embeddings = getattr(transformers, f"{name}Model")(config).embeddings.eval()
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).float()
    for weight in embeddings.parameters():
        torch.nn.init.zeros_(weight)
    with torch.no_grad():
        embeddings.position_embeddings[0, -rows * columns :, :2] = places
        seen = embeddings(torch.zeros(1, 3, rows * PATCH, columns * PATCH), **flag)
    return seen[0, -rows * columns :, :2], places


def compared(name, rows, columns, **flag):
    """Patches that are told their own place, and the mean distance between place and told place in patches."""
    seen, places = told(name, rows, columns, **flag)
    distances = (seen - places).norm(dim=1)
    return int((distances < 0.5).sum()), float(distances.mean())


print("network  patches  without the flag: right, off by  with it: right, off by")
for name in ("ViT", "DeiT", "ViTMSN", "IJepa", "Dinov2"):
    for rows, columns in ((8, 8), (4, 16)):
        flag = {} if name == "Dinov2" else {"interpolate_pos_encoding": True}
        without, with_it = compared(name, rows, columns), compared(name, rows, columns, **flag)
        print(f"{name:8} {rows} x {columns:<4} {without[0]:<23} {without[1]:<7.1f}  {with_it[0]:<14} {with_it[1]:.1f}")
        square = rows == columns
        assert (without[0] == 64) == (square or name != "Dinov2"), "positions are read otherwise now"
        assert with_it[0] == 64 if square else with_it[0] < 16, "positions are interpolated otherwise now"
PY
