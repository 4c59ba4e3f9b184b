"""Forward and backward as VMamba's extensions selective_scan_cuda_core and _oflex and mamba-ssm's selective_scan_cuda have them.

Shapes: B batch, L tokens, D channels, N states, G groups of D / G channels that share B and C. Source:
kernels/selective_scan/csrc/selective_scan of MzeroMiko/VMamba at 2ed52ea, and mamba-ssm 2.3.2. The extensions know nothing of
autograd: forward returns [out, x], and x is what backward wants back. Here x is flat and in no documented order; the last states,
which the original's x holds, come from `selective_scan_fn(..., return_last_state=True)`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lmsearch.errors import KernelError
from lmsearch.kernels import choose_backend
from lmsearch.kernels.checks import check_shape
from lmsearch.kernels.drop_in import check, grouped, grouped_scan, ungrouped
from lmsearch.kernels.native_scan import native_scan, native_scan_backward, states_shape


def _groups(u, delta, A, B, C, D, delta_bias) -> int:
    """Return G; raise KernelError unless B and C are both (B, G, N, L) and everything fits."""
    if B.dim() != 4 or B.shape != C.shape:
        raise KernelError(f"B has shape {tuple(B.shape)} and C {tuple(C.shape)}; expected both (B, G, N, L)")
    return check(u, delta, A, B, C, D, None, delta_bias)


def _is_native(u: Tensor) -> bool:
    return choose_backend("auto", u.device, u.dtype) == "native"


def _native_tensors(u, delta, A, B, C, D, delta_bias, groups: int) -> list[Any]:
    """Return what the native operator takes, x to delta_weight, in float32."""
    *tensors, order, bias = grouped(u, delta, A, B, C, D, delta_bias, groups)
    *floats, bias = (None if t is None else t.float() for t in (*tensors, bias))
    return [*floats, order, None, bias, None, None]


def _forward(u, delta, A, B, C, D, delta_bias, delta_softplus: bool, dtype: torch.dtype) -> list[Tensor]:
    """Return [out, x], out (B, D, L) in `dtype`."""
    groups = _groups(u, delta, A, B, C, D, delta_bias)
    if not _is_native(u):
        out = grouped_scan(u.to(dtype), delta, A, B, C, D, None, delta_bias, delta_softplus, groups, "auto")
        return [out, u.new_empty(0)]
    y, states = native_scan(*_native_tensors(u, delta, A, B, C, D, delta_bias, groups), delta_softplus, True)
    return [ungrouped(y).to(dtype), states.flatten()]


def _backward(u, delta, A, B, C, D, delta_bias, dout: Tensor, x: Tensor | None, delta_softplus: bool) -> list[Tensor | None]:
    """Return the gradients of the first seven arguments, None for an absent one."""
    given = (u, delta, A, B, C, D, delta_bias)
    groups = _groups(*given)
    check_shape("dout", dout, tuple(u.shape), "(B, D, L)")
    if _is_native(u) and x is not None:
        return _native_gradients(given, dout, x, delta_softplus, groups)
    with torch.enable_grad():
        leaves: list[Any] = [None if t is None else t.detach().requires_grad_() for t in given]
        u1, delta1, A1, B1, C1, D1, bias1 = leaves
        y = grouped_scan(u1.to(dout.dtype), delta1, A1, B1, C1, D1, None, bias1, delta_softplus, groups, "auto")
        found = iter(torch.autograd.grad(y, [t for t in leaves if t is not None], dout))
    return [None if t is None else next(found) for t in leaves]


def _native_gradients(given: tuple, dout: Tensor, x: Tensor, delta_softplus: bool, groups: int) -> list[Tensor | None]:
    u, delta, A, B, C, D, delta_bias = given
    tensors = _native_tensors(u, delta, A, B, C, D, delta_bias, groups)
    if x.numel() != torch.Size(states_shape(tensors[1], tensors[2])).numel():
        raise KernelError(f"x has shape {tuple(x.shape)}; expected the x that forward returned for these arguments, or None")
    dy = dout.float().reshape(dout.shape[0], groups, -1, dout.shape[2]).transpose(2, 3).contiguous()  # (B, G, L, D / G)
    dx, ddelta, dA, dB, dC, dD, _, dbias, _ = native_scan_backward(dy, *tensors, x, delta_softplus)
    found = (ungrouped(dx), ungrouped(ddelta), dA.flatten(0, 1), dB.mT, dC.mT, dD.flatten(), dbias.flatten())
    return [None if t is None else g.to(t.dtype).contiguous() for t, g in zip(given, found, strict=True)]


@torch.no_grad()
def core_fwd(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None,
    delta_softplus: bool, nrows: int,
) -> list[Tensor]:  # fmt: skip
    """Return [out, x] with out (B, D, L) in u.dtype.

    u, delta (B, D, L); A (D, N) real; B, C (B, G, N, L); D, delta_bias (D,) or None; `nrows` changes no value, as in the
    original. Raises KernelError for arguments that do not fit.
    """
    return _forward(u, delta, A, B, C, D, delta_bias, delta_softplus, u.dtype)


@torch.no_grad()
def core_bwd(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None,
    dout: Tensor, x: Tensor | None, delta_softplus: bool, nrows: int,
) -> list[Tensor | None]:  # fmt: skip
    """Return [du, ddelta, dA, dB, dC, dD, ddelta_bias], each with shape and dtype of its argument, None for an absent one.

    x is what forward returned; where it is None the forward pass runs once more. The rest is as in `core_fwd`.
    """
    return _backward(u, delta, A, B, C, D, delta_bias, dout, x, delta_softplus)


def _repeats(u: Tensor, delta: Tensor) -> int:
    """Return how many neighbouring channels of u (B, D, L) share one of delta; raise KernelError where they do not divide."""
    if u.dim() != 3 or delta.dim() != 3 or delta.shape[1] == 0 or u.shape[1] % delta.shape[1]:
        raise KernelError(f"delta has shape {tuple(delta.shape)}; expected (B, d, L) where d divides D of u {tuple(u.shape)}")
    return u.shape[1] // delta.shape[1]


def _repeated(t: Tensor | None, dim: int, times: int) -> Tensor | None:
    return t if t is None or times == 1 else t.repeat_interleave(times, dim=dim)


def _summed(grad: Tensor | None, dim: int, times: int) -> Tensor | None:
    return grad if grad is None or times == 1 else grad.unflatten(dim, (-1, times)).sum(dim + 1)


@torch.no_grad()
def oflex_fwd(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None,
    delta_softplus: bool, nrows: int, out_float: bool,
) -> list[Tensor]:  # fmt: skip
    """`core_fwd` with out in float32 (float64 for float64) where `out_float`, and a delta that channels may share.

    delta (B, d, L) and delta_bias (d,), where d divides D: each serves D / d neighbouring channels.
    """
    times = _repeats(u, delta)
    every, bias = _repeated(delta, 1, times), _repeated(delta_bias, 0, times)
    dtype = torch.promote_types(u.dtype, torch.float32) if out_float else u.dtype
    return _forward(u, every, A, B, C, D, bias, delta_softplus, dtype)


@torch.no_grad()
def oflex_bwd(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None,
    dout: Tensor, x: Tensor | None, delta_softplus: bool, nrows: int,
) -> list[Tensor | None]:  # fmt: skip
    """`core_bwd` for what `oflex_fwd` takes; dout in float32 or in u.dtype."""
    times = _repeats(u, delta)
    every, bias = _repeated(delta, 1, times), _repeated(delta_bias, 0, times)
    *first, ddelta, dA, dB, dC, dD, dbias = _backward(u, every, A, B, C, D, bias, dout, x, delta_softplus)
    return [*first, _summed(ddelta, 1, times), dA, dB, dC, dD, _summed(dbias, 0, times)]


def _gate_parts(z: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """Return silu(z) and its derivative, both in at least float32; raise KernelError where z has another shape than out."""
    check_shape("z", z, tuple(out.shape), "(B, D, L)")
    wide = z.to(torch.promote_types(z.dtype, torch.float32))
    part = torch.sigmoid(wide)
    return wide * part, part * (1 + wide * (1 - part))


@torch.no_grad()
def cuda_fwd(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None, delta_bias: Tensor | None,
    delta_softplus: bool,
) -> list[Tensor]:  # fmt: skip
    """Return [out, x], with a gate z (B, D, L) [out, x, out * silu(z)], each but x (B, D, L) in u.dtype.

    As mamba-ssm 2.3.2's selective_scan_cuda (csrc/selective_scan/selective_scan.cpp), which VMamba's block v0 calls. The rest is
    as in `core_fwd`. Raises KernelError for B and C of other forms than (B, G, N, L) and for arguments that do not fit.
    """
    wide, x = _forward(u, delta, A, B, C, D, delta_bias, delta_softplus, torch.promote_types(u.dtype, torch.float32))
    out = wide.to(u.dtype)
    return [out, x] if z is None else [out, x, (wide * _gate_parts(z, wide)[0]).to(u.dtype)]


@torch.no_grad()
def cuda_bwd(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None, delta_bias: Tensor | None,
    dout: Tensor, x: Tensor | None, out: Tensor | None, dz: Tensor | None, delta_softplus: bool, recompute_out_z: bool,
) -> list[Tensor | None]:  # fmt: skip
    """Return what `core_bwd` returns; with a gate z also dz, and out * silu(z) where `recompute_out_z`.

    With z, `dout` is the gradient of the gated result, `out` is what forward returned first, and the gradient is written into
    `dz` where that is given. Raises KernelError for z without out.
    """
    if z is None:
        return _backward(u, delta, A, B, C, D, delta_bias, dout, x, delta_softplus)
    if out is None:
        raise KernelError("selective_scan_cuda.bwd: z needs out, what fwd returned first; out is None")
    for name, tensor in (("out", out), ("dout", dout), ("dz", dz)):
        if tensor is not None:
            check_shape(name, tensor, tuple(u.shape), "(B, D, L)")
    gate, slope = _gate_parts(z, u)
    grads = _backward(u, delta, A, B, C, D, delta_bias, dout * gate, x, delta_softplus)
    found = (dout * out * slope).to(z.dtype)
    more = [found if dz is None else dz.copy_(found)]
    return [*grads, *more, *([(out * gate).to(u.dtype)] if recompute_out_z else [])]
