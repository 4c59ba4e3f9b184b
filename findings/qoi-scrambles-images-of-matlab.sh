#!/usr/bin/env bash
# An image from a MATLAB file, as SVHN's are, is scrambled by qoi without a word; flipped and cropped ones are refused.
#
# scipy.io.loadmat gives arrays in the order of MATLAB, whose first axis is the fastest in memory. qoi asks for a contiguous array and
# refuses a flipped, cropped or transposed one; this one is contiguous too, the other way round, and is taken as it lies in memory. The
# file has the right width and height, and no pixel of the image. np.asarray(array, order="C") before it is written mends it.
#
# Seen with qoi 0.8.0, scipy 1.17.1, pillow 13.0.0, numpy 2.4.6, Python 3.11; an image of 32 x 32 pixels of smooth colours:
# array                        pixels that are others in the file, as read by qoi and by Pillow
# of NumPy                     0 and 0 of 1024
# of a MATLAB file             1024 and 1024 of 1024
# of a MATLAB file, ordered    0 and 0 of 1024
# flipped, cropped, transposed ValueError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q qoi==0.8.0 scipy==1.17.1 pillow==13.0.0 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import qoi
import scipy.io
from PIL import Image

rows, columns = np.mgrid[:32, :32]
image = np.stack([rows * 8, columns * 8, rows + columns], axis=-1).astype(np.uint8)
scipy.io.savemat("images.mat", {"X": image[..., None].repeat(2, axis=-1)})
matlab = scipy.io.loadmat("images.mat")["X"][..., 0]
assert np.array_equal(matlab, image)

print("array                        pixels that are others in the file, as read by qoi and by Pillow")
cases = (
    ("of NumPy", image, 0),
    ("of a MATLAB file", matlab, 1024),
    ("of a MATLAB file, ordered", np.asarray(matlab, order="C"), 0),
)
for name, array, expected in cases:
    qoi.write("image.qoi", array)
    with Image.open("image.qoi") as opened:
        readings = qoi.read("image.qoi"), np.asarray(opened)
    assert all(reading.shape == image.shape for reading in readings)
    others = [int((reading != image).any(axis=-1).sum()) for reading in readings]
    print(f"{name:28} {others[0]} and {others[1]} of {32 * 32}")
    assert others == [expected] * 2, "arrays are written otherwise now"
for view in (image[:, ::-1], image[4:20, 4:20], image.transpose(1, 0, 2)):
    try:
        qoi.encode(view)
    except ValueError as error:
        assert "contiguous" in str(error)
    else:
        raise AssertionError("views are taken now")
print("flipped, cropped, transposed ValueError")
PY
