#!/usr/bin/env bash
# An image that NumPy turned from (height, width, colour) to (colour, height, width) is scrambled when ncnn takes it, of the right shape.
#
# transpose and a cut move no number in memory; they only note how to step through it. ncnn.Mat takes shape and address of an array and
# leaves the steps out, so it reads the memory of the image as it was before. Networks get colours mixed up with columns, without a
# word, and answer something all the same. NumPy, PyTorch and ONNX Runtime follow the steps. Call np.ascontiguousarray first, and
# keep what it returns: ncnn.Mat does not copy either.
#
# Seen with ncnn 1.0.20261020, numpy 2.4.6, Python 3.11; an image of 4 x 6 pixels of three colours:
# array                        shape      numbers in their place
# as it was read               (4, 6, 3)  72 of 72
# turned to colours first      (3, 4, 6)  2 of 72
# the same, contiguous         (3, 4, 6)  72 of 72
# its upper rows               (3, 2, 6)  12 of 36
# every second column          (4, 3, 3)  3 of 36
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q numpy==2.4.6 ncnn==1.0.20261020
venv/bin/python - <<'PY'
import ncnn
import numpy as np

image = np.arange(4 * 6 * 3, dtype=np.float32).reshape(4, 6, 3)
turned = image.transpose(2, 0, 1)
together = np.ascontiguousarray(turned)
CASES = (
    ("as it was read", image, True),
    ("turned to colours first", turned, False),
    ("the same, contiguous", together, True),
    ("its upper rows", together[:, :2], False),
    ("every second column", image[:, ::2], False),
)
print("array                        shape      numbers in their place")
for name, array, right in CASES:
    taken = np.array(ncnn.Mat(array).clone())
    assert taken.shape == array.shape
    same = int((taken == array).sum())
    print(f"{name:28} {array.shape!s:10} {same} of {array.size}")
    assert (same == array.size) == right and (right or same < array.size / 2), "ncnn follows the steps of an array now"
PY
