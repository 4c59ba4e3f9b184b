"""lmsearch.compat's stand-in for mamba-ssm's selective_scan_cuda, with and without its gate, against the naive loop."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from naive_mamba import TOLERANCES, assert_close, compare, naive_scan
from test_compat_scans import BATCH, D, L, scan_tensors

from lmsearch.compat import extension
from lmsearch.errors import KernelError


class Gated(torch.autograd.Function):
    """A call of mamba-ssm's extension, forward and backward; returns the gated result where there is a gate."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, delta_bias, z):
        out, x, *gated = extension.cuda_fwd(u, delta, A, B, C, D, z, delta_bias, True)
        assert len(gated) == (z is not None)
        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, z, x, out)
        return gated[0] if gated else out

    @staticmethod
    def backward(ctx, dout):
        *tensors, delta_bias, z, x, out = ctx.saved_tensors
        if z is None:
            return *extension.cuda_bwd(*tensors, z, delta_bias, dout, x, None, None, True, False), None
        dz = torch.empty_like(z)
        *grads, found, again = extension.cuda_bwd(*tensors, z, delta_bias, dout, x, out, dz, True, True)
        assert found is dz
        assert again.dtype == tensors[0].dtype
        assert_close("recomputed", again, out.float() * F.silu(z.float()), 2 * TOLERANCES[again.dtype])
        return *grads, dz


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("gated", [False, True])
def test_the_extension_of_mamba_ssm_equals_the_naive_loop(gated, dtype):
    def ours(u, delta, A, B, C, D, delta_bias, z=None):
        return Gated.apply(u, delta, A, B, C, D, delta_bias, z)

    def naive(u, delta, A, B, C, D, delta_bias, z=None):
        return naive_scan(u, delta, A, B, C, D, z, delta_bias, True)[0]

    more = {"z": torch.linspace(-2, 2, BATCH * D * L).view(BATCH, D, L).to(dtype)} if gated else {}
    assert compare(ours, naive, scan_tensors(dtype) | more, 2 * TOLERANCES[dtype]).dtype == dtype


def test_a_gate_without_the_ungated_result_is_refused():
    t = scan_tensors()
    given = [t[name] for name in ("u", "delta", "A", "B", "C", "D")]
    with pytest.raises(KernelError, match="z needs out, what fwd returned first"):
        extension.cuda_bwd(*given, t["u"], t["delta_bias"], t["u"], None, None, None, True, False)
    with pytest.raises(KernelError, match=r"z has shape .*; expected \(B, D, L\)"):
        extension.cuda_fwd(*given, t["u"][:, :1], t["delta_bias"], True)
