#!/usr/bin/env bash
# A kernel whose ReLU is tl.maximum(x, 0) hands NaN on in Triton's interpreter, as PyTorch does, and makes 0 of it once it is compiled.
#
# TRITON_INTERPRET=1 runs kernels on the CPU, which is how they are tested without a GPU; one expects the same answers. tl.maximum becomes
# NumPy's maximum there, where NaN wins, and PTX's max.f32 on a GPU, where the other number wins. A parity test with NaN passes, and on the
# GPU a network that has become NaN goes on with zeros, so that nobody sees what happened. tl.max over an axis leaves NaN out in both. Ask
# for propagate_nan=tl.PropagateNan.ALL, or test for NaN in the input itself.
#
# Seen with triton 3.7.1, torch 2.13.0, Python 3.11:
# interpreter: tl.maximum([1, nan, -1, 3], 0) = [1, nan, 0, 3]; tl.max = 3; torch.relu = [1, nan, 0, 3]
# compiled:    max.f32; with PropagateNan.ALL max.NaN.f32
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 triton==3.7.1 numpy==2.4.6
cat > kernels.py <<'PY'
import triton
import triton.language as tl


@triton.jit
def relu(x_ptr, y_ptr, N: tl.constexpr):
    """N numbers through ReLU, and then the largest of them as they came."""
    i = tl.arange(0, N)
    x = tl.load(x_ptr + i)
    tl.store(y_ptr + i, tl.maximum(x, 0.0))
    tl.store(y_ptr + N, tl.max(x, axis=0))


@triton.jit
def elementwise(x_ptr, y_ptr, N: tl.constexpr, ALL: tl.constexpr):
    """ReLU alone, NaN kept where ALL."""
    i = tl.arange(0, N)
    x = tl.load(x_ptr + i)
    y = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL) if ALL else tl.maximum(x, 0.0)
    tl.store(y_ptr + i, y)
PY
cat > interpreted.py <<'PY'
import math

import torch
from kernels import relu


def told(values):
    return f"[{', '.join(f'{value:g}' for value in values.tolist())}]"


x, y = torch.tensor([1.0, math.nan, -1.0, 3.0]), torch.zeros(5)
relu[(1,)](x, y, 4)
print(f"interpreter: tl.maximum({told(x)}, 0) = {told(y[:4])}; tl.max = {y[4]:g}; torch.relu = {told(torch.relu(x))}")
assert math.isnan(y[1]) and y[4] == 3, "the interpreter treats NaN otherwise now"
PY
cat > compiled.py <<'PY'
import re

import triton
from kernels import elementwise
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

KINDS = {"x_ptr": "*fp32", "y_ptr": "*fp32", "N": "constexpr", "ALL": "constexpr"}


def maxima(keep):
    """The instructions of the compiled kernel that take a maximum."""
    source = ASTSource(fn=elementwise, signature=KINDS, constexprs={"N": 128, "ALL": keep})
    text = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
    return sorted(set(re.findall(r"\bmax[.\w]*\.f32\b", text)))


plain, kept = maxima(False), maxima(True)
print(f"compiled:    {', '.join(plain)}; with PropagateNan.ALL {', '.join(kept)}")
assert plain == ["max.f32"] and kept == ["max.NaN.f32"], "the compiler treats NaN otherwise now"
PY
export TRITON_CACHE_DIR="$work/cache"
TRITON_INTERPRET=1 venv/bin/python -W ignore interpreted.py
venv/bin/python -W ignore compiled.py
