"""lmsearch.compat on the Triton kernels, by Triton's interpreter, in a process of its own: what a GPU would run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

MARK = "all agree"


def check() -> None:
    """Compare scans, inner functions, convolution and module with their naive twins; raise AssertionError where they differ."""
    import test_compat_blocks as blocks
    import test_compat_scans as scans
    from naive_mamba import TOLERANCES, compare, naive_inner
    from test_compat_conv import test_the_convolution_equals_the_naive_one

    from lmsearch.kernels import ops

    ops.PREFERENCE["cpu"] = ("triton",)
    for dtype, tolerance in TOLERANCES.items():
        oflex = partial(scans.through, "oflex", flags=(True,))
        compare(oflex, scans.naive_vmamba, scans.scan_tensors(dtype), tolerance)
        compare(scans.no_out_proj, naive_inner, scans.inner_tensors(dtype), 2 * tolerance)
    scans.test_the_inner_functions_with_output_projection_equal_their_twins(torch.float32, True)
    test_the_convolution_equals_the_naive_one("silu", torch.float32)
    for kind in ("none", "v1", "v2"):
        blocks.test_the_module_of_mamba_trains({"bimamba_type": kind})
    assert ops.choose_backend("auto", torch.device("cpu"), torch.float32) == "triton"
    print(MARK)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")
def test_the_stand_ins_agree_on_the_interpreted_kernels() -> None:
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and MARK in done.stdout, done.stderr


if __name__ == "__main__":
    check()
