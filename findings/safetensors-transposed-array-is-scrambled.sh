#!/usr/bin/env bash
# A transposed NumPy array comes back from a safetensors file with its shape right and its numbers in other places.
#
# Weights that go from one framework to another are transposed on the way: JAX's and TensorFlow's kernels are (inputs, outputs), PyTorch's
# (outputs, inputs). In NumPy .T is a view on the same memory. safetensors.numpy writes that memory under the shape of the view, which fits,
# so the file is valid, loads anywhere, and holds another matrix. safetensors.torch raises for such a tensor. Pass
# np.ascontiguousarray(array).
#
# Seen with safetensors 0.8.0, numpy 2.4.6, Python 3.11:
# array                    [[0, 1, 2], [3, 4, 5]]   as saved [[0, 1, 2], [3, 4, 5]]
# array.T                  [[0, 3], [1, 4], [2, 5]] as saved [[0, 1], [2, 3], [4, 5]]
# ascontiguousarray(.T)    [[0, 3], [1, 4], [2, 5]] as saved [[0, 3], [1, 4], [2, 5]]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q safetensors==0.8.0 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
from safetensors.numpy import load_file, save_file

array = np.arange(6, dtype=np.int64).reshape(2, 3)
CASES = (("array", array, True), ("array.T", array.T, False), ("ascontiguousarray(.T)", np.ascontiguousarray(array.T), True))
for label, weights, same in CASES:
    save_file({"weights": weights}, "weights.safetensors")
    read = load_file("weights.safetensors")["weights"]
    print(f"{label:24} {str(weights.tolist()):24} as saved {read.tolist()}")
    assert read.shape == weights.shape and np.array_equal(read, weights) is same, "views are written otherwise now"
PY
