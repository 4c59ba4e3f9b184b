"""selective_scan functions with the signatures of mamba-ssm and VMamba, on the K-direction operator.

Shapes: B batch, L tokens, D channels, N states, G groups of D / G channels that share B and C. A group becomes a
direction with the identity order.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lmsearch.errors import KernelError
from lmsearch.kernels.checks import check_floats, check_shape
from lmsearch.kernels.ops import directional_scan
from lmsearch.kernels.orders import time_orders


def groups_of(name: str, t: Tensor, u: Tensor, n: int) -> int:
    """Return in how many groups `t` (B or C) splits the channels of u (B, D, L); raise KernelError if it does not fit."""
    batch, channels, length = u.shape
    if t.dim() == 2:
        check_shape(name, t, (channels, n), "(D, N)")
        return channels
    if t.dim() == 3:
        check_shape(name, t, (batch, n, length), "(B, N, L)")
        return 1
    if t.dim() != 4:
        raise KernelError(f"{name} has shape {tuple(t.shape)}; expected (D, N), (B, N, L) or (B, G, N, L)")
    check_shape(name, t, (batch, t.shape[1], n, length), "(B, G, N, L)")
    if t.shape[1] == 0 or channels % t.shape[1]:
        raise KernelError(f"{name} has {t.shape[1]} groups, which do not divide D = {channels} channels")
    return t.shape[1]


def per_group(t: Tensor, groups: int, batch: int, length: int) -> Tensor:
    """Return B or C as (B, groups, L, N), contiguous where it varies in time."""
    if t.dim() == 2:
        return t[None, :, None, :].expand(batch, -1, length, -1)
    if t.dim() == 3:
        t = t.unsqueeze(1)
    return t.transpose(2, 3).contiguous().repeat_interleave(groups // t.shape[1], dim=1)


def check(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D, z, delta_bias) -> int:
    """Raise KernelError unless the arguments fit together; return the number of groups."""
    if u.dim() != 3 or A.dim() != 2:
        raise KernelError(f"u has shape {tuple(u.shape)} and A {tuple(A.shape)}; expected (B, D, L) and (D, N)")
    if any(t.is_complex() for t in (A, B, C)):
        raise KernelError("complex A, B or C is not supported; expected real tensors")
    check_shape("delta", delta, tuple(u.shape), "(B, D, L)")
    check_shape("A", A, (u.shape[1], A.shape[1]), "(D, N)")
    for name, t, shape, legend in (
        ("D", D, (u.shape[1],), "(D,)"),
        ("delta_bias", delta_bias, (u.shape[1],), "(D,)"),
        ("z", z, u.shape, "(B, D, L)"),
    ):
        if t is not None:
            check_shape(name, t, tuple(shape), legend)
    check_floats(u.device, {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias})
    return math.lcm(groups_of("B", B, u, A.shape[1]), groups_of("C", C, u, A.shape[1]))


Grouped = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor, Tensor | None]


def grouped(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D, delta_bias, groups: int) -> Grouped:
    """Return x, delta, A, B, C, D, order and delta_bias as the operator takes them, with one direction per group."""
    batch, channels, length = u.shape
    width = channels // groups

    def split(t: Tensor) -> Tensor:
        return t.reshape(batch, groups, width, length).transpose(2, 3).contiguous()  # (B, G, L, D / G)

    return (
        split(u),
        split(delta),
        A.reshape(groups, width, -1),
        per_group(B, groups, batch, length),
        per_group(C, groups, batch, length),
        None if D is None else D.reshape(groups, width),
        time_orders(length, u.device, forwards=groups),
        None if delta_bias is None else delta_bias.reshape(groups, width),
    )


def ungrouped(y: Tensor) -> Tensor:
    """Return (B, D, L), dense, of a tensor (B, G, L, D / G)."""
    return y.transpose(2, 3).flatten(1, 2).contiguous()


def grouped_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus: bool, groups: int, backend: str) -> Tensor:
    """Return the scan (B, D, L) in u.dtype with one direction per group; z only where there is one group."""
    *tensors, bias = grouped(u, delta, A, B, C, D, delta_bias, groups)
    gate = None if z is None else z.transpose(1, 2).contiguous()
    return ungrouped(directional_scan(*tensors, z=gate, delta_bias=bias, delta_softplus=delta_softplus, backend=backend))  # type: ignore[arg-type]


@torch.no_grad()
def last_state(u, delta, A, B, C, delta_bias, delta_softplus: bool, groups: int) -> Tensor:
    """Return the state (B, D, N) after the last token, in at least float32: the recurrence, step by step, without gradient."""
    compute = torch.promote_types(u.dtype, torch.float32)
    batch, channels, length = u.shape
    dt = delta.to(compute)
    if delta_bias is not None:
        dt = dt + delta_bias.to(compute)[:, None]
    if delta_softplus:
        dt = F.softplus(dt)
    inputs = dt * u.to(compute)
    B = per_group(B.to(compute), groups, batch, length).repeat_interleave(channels // groups, dim=1)  # (B, D, L, N)
    A = A.to(compute)
    h = u.new_zeros(batch, channels, A.shape[-1], dtype=compute)
    for t in range(length):
        h = torch.exp(dt[:, :, t, None] * A) * h + inputs[:, :, t, None] * B[:, :, t]
    return h


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """The selective scan with mamba-ssm's signature: u, delta, z (B, D, L); A (D, N) real; D, delta_bias (D,).

    B and C are (D, N), (B, N, L) or (B, G, N, L), G divides D. Returns (B, D, L) in u.dtype, the silu(z) gate applied
    last; with `return_last_state` also the state (B, D, N) in float32 (float64 for float64), through which, as in
    mamba-ssm, no gradient flows. Raises KernelError for arguments that do not fit.
    """
    groups = check(u, delta, A, B, C, D, z, delta_bias)
    if z is None or groups == 1:
        out = grouped_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, groups, backend)
    else:  # the operator's gate is shared by the directions; here each group has its own channels of z
        wide = u.to(torch.promote_types(u.dtype, torch.float32))
        y = grouped_scan(wide, delta, A, B, C, D, None, delta_bias, delta_softplus, groups, backend)
        out = (y * F.silu(z.to(y.dtype))).to(u.dtype)
    return (out, last_state(u, delta, A, B, C, delta_bias, delta_softplus, groups)) if return_last_state else out


def vmamba_selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = True,
    oflex: bool = True,
    backend: str | None = None,
) -> Tensor:
    """The selective scan with VMamba's signature; arguments as in `selective_scan_fn`, without a gate.

    Returns (B, D, L), in float32 where `oflex` is true and in u.dtype where not. `backend` is one of lmsearch's names,
    None stands for "auto".
    """
    groups = check(u, delta, A, B, C, D, None, delta_bias)
    if oflex:
        u = u.to(torch.promote_types(u.dtype, torch.float32))
    return grouped_scan(u, delta, A, B, C, D, None, delta_bias, delta_softplus, groups, backend or "auto")
