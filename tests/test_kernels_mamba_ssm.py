"""The mamba_ssm backend against the reference, with a stand-in for the public scan. Not run on a GPU."""

from __future__ import annotations

import sys
import types

import pytest
import torch
import torch.nn.functional as F

from lmsearch import kernels
from lmsearch.errors import BackendUnavailableError, KernelError
from lmsearch.kernels import mamba_ssm, reference

CALLS = []


def stand_in_scan(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    """mamba-ssm's published definition for B, C (B, G, N, L), channel by channel."""
    CALLS.append({"u": u, "B": B, "A": A})
    batch, channels, length = u.shape
    assert A.dtype == torch.float32 and A.shape == (channels, B.shape[2])
    assert B.dtype == C.dtype == delta.dtype == u.dtype and channels % B.shape[1] == 0
    dt = delta.float() + (0 if delta_bias is None else delta_bias[None, :, None])
    dt = F.softplus(dt) if delta_softplus else dt
    of = torch.arange(channels) // (channels // B.shape[1])  # the group of each channel
    h, out = torch.zeros(batch, channels, A.shape[1]), []
    for t in range(length):
        fed = dt[:, :, t, None] * B.float()[:, of, :, t] * u.float()[:, :, t, None]
        h = torch.exp(dt[:, :, t, None] * A) * h + fed
        out.append((h * C.float()[:, of, :, t]).sum(-1))
    y = torch.stack(out, dim=-1)
    y = y if D is None else y + D[:, None] * u.float()
    return (y if z is None else y * F.silu(z.float())).to(u.dtype)


@pytest.fixture
def stand_in(monkeypatch):
    interface = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = stand_in_scan
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    CALLS.clear()


def make(*, shared, dtype=torch.float32, batch=3, k=4, length=9, d=6, n=3, optional=True):
    g = torch.Generator().manual_seed(5)

    def draw(*shape):
        return torch.randn(*shape, generator=g)

    main = (
        draw(*((batch, length, d) if shared else (batch, k, length, d))).to(dtype),
        draw(batch, k, length, d).to(dtype),
        -torch.rand(k, d, n, generator=g),
        draw(batch, k, length, n).to(dtype),
        draw(batch, k, length, n).to(dtype),
        draw(k, d) if optional else None,
        torch.stack([torch.randperm(length, generator=g) for _ in range(k)]),
    )
    named = {"z": draw(batch, length, d).to(dtype), "delta_bias": draw(k, d)} if optional else {}
    return main, {**named, "delta_softplus": True}


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_one_grouped_call_with_gathers_equals_the_reference_forward_and_backward(stand_in, shared, optional):
    results = []
    for function in (mamba_ssm.directional_scan, reference.directional_scan):
        main, named = make(shared=shared, optional=optional)
        inputs = [t for t in (*main, *named.values()) if isinstance(t, torch.Tensor) and t.is_floating_point()]
        for t in inputs:
            t.requires_grad_()
        y = function(*main, **named)
        y.backward(torch.linspace(-1, 1, y.numel()).view(y.shape))
        results.append([y.detach(), *(t.grad for t in inputs)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert len(CALLS) == 1
    assert CALLS[0]["u"].shape == (3, 4 * 6, 9) and CALLS[0]["B"].shape == (3, 4, 3, 9)


def test_the_widest_dtype_reaches_the_public_scan_and_the_result_has_that_of_x(stand_in):
    main, named = make(shared=True, dtype=torch.bfloat16)
    main = (main[0], main[1].float(), *main[2:])
    y = mamba_ssm.directional_scan(*main, **named)
    assert CALLS[0]["u"].dtype == torch.float32
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, reference.directional_scan(*main, **named), rtol=3e-2, atol=5e-2)


def test_reset_flags_are_refused(stand_in):
    main, named = make(shared=True)
    with pytest.raises(KernelError, match="reset"):
        mamba_ssm.directional_scan(*main, **named, reset=torch.zeros(4, 9, dtype=torch.bool))


def test_float64_is_refused(stand_in):
    main, named = make(shared=True, dtype=torch.float64)
    with pytest.raises(KernelError, match="float64"):
        mamba_ssm.directional_scan(*main, **named)


def test_convolution_is_the_reference():
    g = torch.Generator().manual_seed(1)
    x, weight, bias = torch.randn(3, 5, 4, generator=g), torch.randn(2, 4, 3, generator=g), torch.randn(2, 4, generator=g)
    order = torch.stack([torch.randperm(5, generator=g) for _ in range(2)])
    expected = reference.directional_conv(x, weight, bias, order)
    assert torch.equal(mamba_ssm.directional_conv(x, weight, bias, order), expected)


def test_without_the_package_the_error_holds_the_install_command(monkeypatch):
    monkeypatch.setattr(mamba_ssm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailableError, match="MAMBA_KEEP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE .*--no-deps"):
        kernels.choose_backend("mamba_ssm", torch.device("cpu"), torch.float32)


def test_with_the_package_cpu_tensors_are_still_refused(monkeypatch):
    monkeypatch.setattr(mamba_ssm.importlib.util, "find_spec", lambda name: object())
    assert "CUDA" in mamba_ssm.unavailable_reason(torch.device("cpu"))
