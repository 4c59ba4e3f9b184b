#!/usr/bin/env bash
# White, 255, is 127 where two patches overlap and 63 where four do, if TorchIO puts a scan together again from patches of bytes.
#
# A network reads a scan in overlapping patches, and GridAggregator with overlap_mode="average" sums what it says and divides by how many
# patches there were. The sums are kept in the dtype of the patches: as bytes, 255 + 255 is 254. So masks of 0 and 255, or probabilities
# that were made bytes to save memory, get dark grids, and a threshold cuts holes into organs. "hann", the other average, sums as
# float32, and "crop" sums nothing. No step says a word. Hand float32 to add_batch.
#
# Seen with TorchIO 1.2.1, torch 2.13.0, Python 3.11; an image of 16 x 16 in patches of 8 x 8 that overlap by 4; values put together:
# all are  dtype     crop       average        hann
# 255      uint8     255        63 127 255     255
# 200      uint8     200        8 72 200       200
# 60       uint8     60         60             60
# 255      int16     255        255            255
# 255      float32   255        255            255
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 scipy==1.17.1 simpleitk==2.5.7 tqdm==4.70.1 rich==15.0.0 typer==0.29.2 deprecated==1.3.1
venv/bin/pip install -q nibabel==5.4.2 humanize==4.17.0 jaxtyping==0.3.11 einops==0.8.2
venv/bin/pip install -q --no-deps torchio==1.2.1
venv/bin/python -W ignore - <<'PY'
import torch
import torchio


def together(value, dtype, mode):
    image = torch.full((1, 16, 16, 1), value, dtype=dtype)
    sampler = torchio.GridSampler(torchio.Subject(image=torchio.ScalarImage(tensor=image)), (8, 8, 1), (4, 4, 0))
    aggregator = torchio.GridAggregator(sampler, overlap_mode=mode)
    for patches in torch.utils.data.DataLoader(sampler, batch_size=4):
        aggregator.add_batch(patches["image"]["data"], patches["location"])
    values = aggregator.get_output_tensor().float().round(decimals=2).unique()
    return sorted({round(number) if abs(number - round(number)) < 0.02 else int(number) for number in values.tolist()})


CASES = (
    (255, torch.uint8, [63, 127, 255]),
    (200, torch.uint8, [8, 72, 200]),
    (60, torch.uint8, [60]),
    (255, torch.int16, [255]),
    (255, torch.float32, [255]),
)
print("all are  dtype     crop       average        hann")
for value, dtype, expected in CASES:
    crop, average, hann = (together(value, dtype, mode) for mode in ("crop", "average", "hann"))
    told = [" ".join(map(str, found)) for found in (crop, average, hann)]
    print(f"{value:<8} {str(dtype)[6:]:9} {told[0]:10} {told[1]:14} {told[2]}")
    assert crop == hann == [value]
    assert average == expected, "patches of bytes are summed otherwise now"
PY
