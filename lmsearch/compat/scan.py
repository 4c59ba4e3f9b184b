"""mamba-ssm's scan in plain PyTorch, which code asks for to compare with the fast one, and its single step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lmsearch.errors import KernelError
from lmsearch.kernels import selective_scan_fn
from lmsearch.kernels.checks import check_shape


def selective_scan_ref(
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
) -> Tensor | tuple[Tensor, Tensor]:
    """`selective_scan_fn` on the reference backend. Source: mamba_ssm/ops/selective_scan_interface.py of mamba-ssm 2.3.2."""
    return selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state, backend="reference")


def _with_heads(t: Tensor | None, dims: int, axis: int) -> Tensor | None:
    return t.unsqueeze(axis) if t is not None and t.dim() == dims else t


@torch.no_grad()
def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_batch_indices: Tensor | None = None,
) -> Tensor:
    """One token of the scan: moves state (B, D, N) on in place and returns what it gives, (B, D) in x.dtype, without gradient.

    x, dt, z (B, D); A (D, N); B, C (B, N); D, dt_bias (D,). With heads: state (B, H, D, N), x, dt, z (B, H, D), A (H, D, N),
    D, dt_bias (H, D), and B, C (B, G, N) where G divides H. In plain PyTorch, in at least float32. Raises KernelError for
    `state_batch_indices`, which is not served, and for shapes that do not fit. Source:
    mamba_ssm/ops/triton/selective_state_update.py of mamba-ssm 2.3.2.
    """
    if state_batch_indices is not None:
        raise KernelError("lmsearch.compat: selective_state_update is not served with state_batch_indices; expected None")
    if state.dim() not in (3, 4):
        raise KernelError(f"state has shape {tuple(state.shape)}; expected (B, D, N) or (B, H, D, N)")
    h = state if state.dim() == 4 else state.unsqueeze(1)
    batch, heads, channels, n = h.shape
    streams = {name: _with_heads(t, 2, 1) for name, t in {"x": x, "dt": dt, "z": z, "B": B, "C": C}.items()}
    own = {"A": _with_heads(A, 2, 0), "D": _with_heads(D, 1, 0), "dt_bias": _with_heads(dt_bias, 1, 0)}
    groups = streams["B"].shape[1]  # type: ignore[union-attr]
    if groups == 0 or heads % groups:
        raise KernelError(f"B has {groups} groups, which do not divide H = {heads} heads")
    token, rates = (batch, heads, channels), (batch, groups, n)
    shapes: dict[str, tuple[int, ...]] = {"x": token, "dt": token, "z": token, "B": rates, "C": rates}
    shapes |= {"A": (heads, channels, n), "D": (heads, channels), "dt_bias": (heads, channels)}
    compute = torch.promote_types(x.dtype, torch.float32)
    given = {}
    for name, t in (streams | own).items():
        if t is not None:
            check_shape(name, t, shapes[name], "with its heads")
            given[name] = t.to(compute)
    step = given["dt"] + given.get("dt_bias", 0)
    step = F.softplus(step) if dt_softplus else step
    rate, readout = (given[name].repeat_interleave(heads // groups, dim=1) for name in "BC")  # (B, H, N)
    new = h.to(compute) * torch.exp(step.unsqueeze(-1) * given["A"]) + (step * given["x"]).unsqueeze(-1) * rate.unsqueeze(2)
    h.copy_(new)
    out = torch.matmul(new, readout.unsqueeze(-1)).squeeze(-1) + given["x"] * given.get("D", 0)
    out = (out * F.silu(given["z"]) if z is not None else out).to(x.dtype)
    return out if state.dim() == 4 else out.squeeze(1)
