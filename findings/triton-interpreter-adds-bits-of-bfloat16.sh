#!/usr/bin/env bash
# In Triton's interpreter the sum of the bfloat16 numbers 1, 2, 3 and 4 is 0, and that of four ones is -4.25e+37.
#
# NumPy has no bfloat16, so the interpreter holds such numbers as 16-bit integers. Maxima and running sums take them for what they are;
# tl.sum adds the integers and reads the total as a bfloat16 again. Compiled, the kernel adds numbers. So a kernel that is right fails its
# test on the CPU, in half precision alone, and who trusts the test looks for the fault in the kernel. Cast to float32 before a sum, which
# is more exact on a GPU as well.
#
# Seen with triton 3.7.1, torch 2.13.0, Python 3.11; 1, 2, 3, 4 and 1, 1, 1, 1:
#            tl.sum      cast first   last of tl.cumsum   tl.max
# float32    10 4        10 4         10 4                4 1
# float16    10 4        10 4         10 4                4 1
# bfloat16   0 -4.25e+37 10 4         10 4                4 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 triton==3.7.1 numpy==2.4.6
cat > sums.py <<'PY'
import torch
import triton
import triton.language as tl


@triton.jit
def sums(x_ptr, y_ptr, N: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, N))
    tl.store(y_ptr, tl.sum(x, axis=0).to(tl.float32))
    tl.store(y_ptr + 1, tl.sum(x.to(tl.float32), axis=0))
    tl.store(y_ptr + 2, tl.max(tl.cumsum(x, axis=0), axis=0).to(tl.float32))
    tl.store(y_ptr + 3, tl.max(x, axis=0).to(tl.float32))


print(f"{'':10} tl.sum      cast first   last of tl.cumsum   tl.max")
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    found = []
    for numbers in ([1, 2, 3, 4], [1, 1, 1, 1]):
        y = torch.zeros(4)
        sums[(1,)](torch.tensor(numbers, dtype=dtype), y, 4)
        found.append(y.tolist())
    plain, cast, running, largest = (f"{first:.3g} {second:.3g}" for first, second in zip(*found))
    print(f"{str(dtype)[6:]:10} {plain:11} {cast:12} {running:19} {largest}")
    assert (plain, cast, running, largest)[1:] == ("10 4", "10 4", "4 1")
    assert (plain == "10 4") is (dtype != torch.bfloat16), "the interpreter adds otherwise now"
PY
TRITON_INTERPRET=1 venv/bin/python -W ignore sums.py
