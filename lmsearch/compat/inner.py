"""The inner part of a Mamba block in one call: convolution, projections and gated scan, with the signatures of mamba-ssm and Vim.

Shapes: B batch, L tokens, D inner channels, N states, R rank of delta, W taps, K scans of the same tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lmsearch.errors import KernelError
from lmsearch.kernels import directional_conv, directional_scan, selective_scan_fn
from lmsearch.kernels.checks import check_shape
from lmsearch.kernels.orders import time_orders


def halves(xz: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and z, each (B, L, D), of xz (B, 2D, L); raise KernelError for another shape."""
    if xz.dim() != 3 or xz.shape[1] % 2:
        raise KernelError(f"xz has shape {tuple(xz.shape)}; expected (B, 2 D, L)")
    x, z = xz.transpose(1, 2).contiguous().chunk(2, dim=-1)
    return x, z


def check_inner(x: Tensor, conv1d_weight: Tensor, x_proj_weight: Tensor, delta_proj_weight: Tensor, A: Tensor) -> None:
    """Raise KernelError unless the weights fit x (B, L, D) and A is real (D, N)."""
    channels = x.shape[-1]
    if A.is_complex():
        raise KernelError("complex A is not supported; expected real (D, N)")
    if conv1d_weight.dim() != 3 or delta_proj_weight.dim() != 2 or A.dim() != 2:
        shapes = ", ".join(str(tuple(t.shape)) for t in (conv1d_weight, delta_proj_weight, A))
        raise KernelError(f"conv1d_weight, delta_proj_weight, A have shapes {shapes}; expected (D, 1, W), (D, R), (D, N)")
    rank = delta_proj_weight.shape[1]
    check_shape("conv1d_weight", conv1d_weight, (channels, 1, conv1d_weight.shape[-1]), "(D, 1, W)")
    check_shape("delta_proj_weight", delta_proj_weight, (channels, rank), "(D, R)")
    check_shape("A", A, (channels, A.shape[1]), "(D, N)")
    if x_proj_weight.dim() != 2 or x_proj_weight.shape[1] != channels:
        raise KernelError(f"x_proj_weight has shape {tuple(x_proj_weight.shape)}; expected (R + 2 N, D) with D = {channels}")


def low_rank_scan(u: Tensor, z: Tensor, projected: Tensor, weight, A, D, bias, order: Tensor, delta_softplus: bool) -> Tensor:
    """Return y (B, K, L, D) of K gated scans whose delta, B and C are the columns of projected (B, K, L, R + 2N).

    u is (B, L, D) or (B, K, L, D); weight (K, D, R) takes delta to all channels; A (K, D, N); D, bias (K, D) or None.
    """
    rank, n = weight.shape[-1], A.shape[-1]
    check_shape("x_proj's output", projected, (*projected.shape[:3], rank + 2 * n), "(B, K, L, R + 2 N)")
    delta, B, C = projected.split((rank, n, n), dim=-1)
    return directional_scan(u, delta, A, B, C, D, order, z=z, delta_bias=bias, delta_softplus=delta_softplus, delta_weight=weight)


def _with_bias(B: Tensor, bias: Tensor | None) -> Tensor:
    return B if bias is None else B + bias.to(B.dtype)


def _normed(t: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    if weight is None:
        return t
    compute = torch.promote_types(t.dtype, torch.float32)
    return F.rms_norm(t.to(compute), weight.shape, weight.to(compute), eps).to(t.dtype)


def _gated(
    xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B, C, D, delta_bias, B_proj_bias, C_proj_bias,
    softplus: bool, norms: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None), eps: float = 1e-6,
) -> Tensor:  # fmt: skip
    """Return the gated scan (B, L, D); `norms` are the weights of RMS norms of B, C and delta, behind their projections."""
    x, z = halves(xz)
    check_inner(x, conv1d_weight, x_proj_weight, delta_proj_weight, A)
    rank, n, order = delta_proj_weight.shape[1], A.shape[1], time_orders(x.shape[1], x.device)
    bias = None if conv1d_bias is None else conv1d_bias.unsqueeze(0)
    u = directional_conv(x, conv1d_weight.transpose(0, 1), bias, order)[:, 0]  # (B, L, D)
    projected = F.linear(u, x_proj_weight)
    if all(t is None for t in (B, C, B_proj_bias, C_proj_bias, *norms)):
        weight, states, skip, dt_bias = (None if t is None else t.unsqueeze(0) for t in (delta_proj_weight, A, D, delta_bias))
        return low_rank_scan(u, z, projected.unsqueeze(1), weight, states, skip, dt_bias, order, softplus)[:, 0]
    delta = _normed(F.linear(projected[..., :rank], delta_proj_weight), norms[2], eps)
    if B is None:
        B = _normed(_with_bias(projected[..., rank : rank + n], B_proj_bias), norms[0], eps).transpose(1, 2)
    if C is None:
        C = _normed(_with_bias(projected[..., -n:], C_proj_bias), norms[1], eps).transpose(1, 2)
    u, delta, z = (t.transpose(1, 2) for t in (u, delta, z))
    y = selective_scan_fn(u, delta, A, B, C, D, z=z, delta_bias=delta_bias, delta_softplus=softplus)
    return y.transpose(1, 2)  # type: ignore[union-attr] # without the last state


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    b_rms_weight: Tensor | None = None,
    c_rms_weight: Tensor | None = None,
    dt_rms_weight: Tensor | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> Tensor:
    """A Mamba block from xz (B, 2D, L), in which x comes before the gate z, to its output (B, L, d_model).

    conv1d_weight (D, 1, W); x_proj_weight (R + 2N, D); delta_proj_weight (D, R); out_proj_weight (d_model, D); A (D, N)
    real; D, delta_bias (D,). B and C come from x_proj unless they are given as `selective_scan_fn` takes them.
    `checkpoint_lvl` (0 or 1) chooses what the original keeps for its backward pass and changes no value: here nothing.
    `b_rms_weight`, `c_rms_weight` (N,) and `dt_rms_weight` (D,) norm B, C and delta as FalconMamba does; the gradient goes
    through these norms, which the original's backward pass leaves out. Raises KernelError for what does not fit, for
    complex A and for a given B or C that is to be normed. Source: mamba_ssm/ops/selective_scan_interface.py of mamba-ssm 2.3.2.
    """
    if checkpoint_lvl not in (0, 1):
        raise KernelError(f"checkpoint_lvl={checkpoint_lvl!r}; accepted: 0, 1")
    norms = {"b_rms_weight": b_rms_weight, "c_rms_weight": c_rms_weight, "dt_rms_weight": dt_rms_weight}
    for name, given, size in zip(norms, (B, C, None), (A.shape[-1], A.shape[-1], A.shape[0]), strict=True):
        if (weight := norms[name]) is not None:
            check_shape(name, weight, (size,), "(D,)" if name == "dt_rms_weight" else "(N,)")
            if given is not None:
                raise KernelError(f"lmsearch.compat: mamba_inner_fn is not served with {name} and a given B or C")
    y = _gated(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B, C, D, delta_bias, B_proj_bias, C_proj_bias,
        delta_softplus, (b_rms_weight, c_rms_weight, dt_rms_weight), b_c_dt_rms_eps,
    )  # fmt: skip
    return F.linear(y, out_proj_weight, out_proj_bias)


def mamba_inner_fn_no_out_proj(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """`mamba_inner_fn` without the last projection: the gated scan (B, D, L), channel-first and dense.

    Source: mamba_ssm/ops/selective_scan_interface.py of the mamba-ssm 1.1.1 that Vim (hustvl/Vim) brings along.
    """
    y = _gated(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B, C, D, delta_bias, B_proj_bias, C_proj_bias,
        delta_softplus,
    )  # fmt: skip
    return y.transpose(1, 2).contiguous()


def bimamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    A_b: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """`mamba_inner_fn` with a second scan, backwards in time with A_b (D, N): the sum of both, projected (B, L, d_model).

    Both scans take the same convolution, delta, B, C, D and gate. Raises KernelError where B or C is given: only those
    of x_proj are served. Source: as `mamba_inner_fn_no_out_proj`.
    """
    if B is not None or C is not None:
        raise KernelError("lmsearch.compat: bimamba_inner_fn is not served with a given B or C; expected None")
    x, z = halves(xz)
    check_inner(x, conv1d_weight, x_proj_weight, delta_proj_weight, A)
    if A_b.is_complex():
        raise KernelError("complex A_b is not supported; expected real (D, N)")
    check_shape("A_b", A_b, tuple(A.shape), "(D, N)")
    rank, n, length = delta_proj_weight.shape[1], A.shape[1], x.shape[1]
    bias = None if conv1d_bias is None else conv1d_bias.unsqueeze(0)
    u = directional_conv(x, conv1d_weight.transpose(0, 1), bias, time_orders(length, x.device))[:, 0]
    projected = F.linear(u, x_proj_weight)
    if B_proj_bias is not None or C_proj_bias is not None:
        delta, B, C = projected.split((rank, n, n), dim=-1)
        projected = torch.cat([delta, _with_bias(B, B_proj_bias), _with_bias(C, C_proj_bias)], dim=-1)
    weight, skip, dt_bias = (None if t is None else t.expand(2, *t.shape) for t in (delta_proj_weight, D, delta_bias))
    projected = projected.unsqueeze(1).expand(-1, 2, -1, -1)
    orders = time_orders(length, x.device, backwards=1)
    y = low_rank_scan(u, z, projected, weight, torch.stack([A, A_b]), skip, dt_bias, orders, delta_softplus)
    return F.linear(y.sum(1), out_proj_weight, out_proj_bias)
