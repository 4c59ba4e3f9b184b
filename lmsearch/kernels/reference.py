"""The selective scan and the causal convolution along K scan orders, as plain PyTorch: the definition of both.

Shapes: B batch, K directions, L tokens, D channels, N states, W taps. Every tensor is in raster order;
order[k, t] is the raster index of the token that direction k visits at time t.

    h_t = exp(delta_t A) h_{t-1} + delta_t B_t x_t        (h = 0 before the first token and before a reset)
    y_t = C_t . h_t + D x_t,  times silu(z_t) where a gate is given

Any floating dtype; half precision is computed in float32. Work and memory are linear in L, forward and backward:
the time axis is unbound once, never sliced.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from lmsearch.kernels.native_library import is_by_direction


def unavailable_reason(device: torch.device) -> str | None:
    """The reference runs everywhere."""
    return None


def along(t: Tensor, order: Tensor) -> Tensor:
    """Gather (B, K, L, ...) from raster order into the order of the visit, per direction."""
    directions, length = order.shape
    starts = length * torch.arange(directions, device=order.device)
    rows = (order.long() + starts[:, None]).flatten()  # of all directions' tokens: whole rows are copied, not single numbers
    return t.flatten(1, 2).index_select(1, rows).unflatten(1, (directions, length))


def whole_delta(delta: Tensor, weight: Tensor) -> Tensor:
    """Return delta (B, K, L, D) of a low-rank one (B, K, L, R) and its weight (K, D, R).

    Where delta lies in memory as (K, B, L, R) that is one product per direction over the tokens of all images.
    """
    if not is_by_direction(delta):
        return torch.matmul(delta, weight.mT)
    batch, _, length, _ = delta.shape
    return torch.bmm(delta.transpose(0, 1).flatten(1, 2), weight.mT).unflatten(1, (batch, length)).transpose(0, 1)


def directional_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    order: Tensor,
    *,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    reset: Tensor | None = None,
) -> Tensor:
    """Return y (B, K, L, D) in x.dtype; arguments as in `lmsearch.kernels.directional_scan`, already checked."""
    compute = torch.promote_types(x.dtype, torch.float32)
    batch, directions, length, channels = delta.shape
    u = (x if x.dim() == 4 else x.unsqueeze(1).expand_as(delta)).to(compute)  # (B, K, L, D)
    dt = delta.to(compute)
    if delta_bias is not None:
        dt = dt + delta_bias.to(compute)[:, None, :]
    if delta_softplus:
        dt = F.softplus(dt)
    A, B, C = A.to(compute), B.to(compute), C.to(compute)

    steps = zip(*(along(t, order).unbind(2) for t in (dt, dt * u, B, C)), strict=True)
    keep = None if reset is None else torch.take_along_dim(~reset.bool(), order.long(), dim=1).to(compute)  # (K, L)
    h = u.new_zeros(batch, directions, channels, A.shape[-1])
    visited = []
    for t, (dt_t, du_t, B_t, C_t) in enumerate(steps):
        if keep is not None:
            h = h * keep[:, t, None, None]
        h = torch.exp(dt_t[..., None] * A) * h + du_t[..., None] * B_t[:, :, None, :]  # (B, K, D, N)
        visited.append(torch.einsum("bkdn,bkn->bkd", h, C_t))
    y = along(torch.stack(visited, dim=2), order.argsort(dim=1))  # back to raster order (B, K, L, D)
    if D is not None:
        y = y + D.to(compute)[:, None, :] * u
    if z is not None:
        y = y * F.silu(z.to(compute)).unsqueeze(1)
    return y.to(x.dtype)


def directional_conv(x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor) -> Tensor:
    """Return silu of the causal depthwise convolution of x (B, L, D) along each order: (B, K, L, D), in raster order."""
    compute = torch.promote_types(x.dtype, torch.float32)
    taps = weight.shape[-1]
    batch, length, channels = x.shape
    visits = along(x.to(compute).unsqueeze(1).expand(-1, order.shape[0], -1, -1), order)  # (B, K, L, D)
    padded = F.pad(visits, (0, 0, taps - 1, 0))
    terms = (padded[:, :, j : j + length] * weight.to(compute)[:, None, :, j] for j in range(taps))
    y = sum(terms, start=torch.zeros((), dtype=compute, device=x.device))
    if bias is not None:
        y = y + bias.to(compute)[:, None, :]
    return F.silu(along(y, order.argsort(dim=1))).to(x.dtype)


def weighted_merge(o: Tensor, gate: Tensor | None, weights: Tensor, *, eps: float) -> Tensor:
    """Return the weighted sum (B, L, D) of normalised branches; as in `lmsearch.kernels.weighted_merge`, already checked.

    Weights and normalised rows are in float32 or wider, which autocast would round.
    """
    gated, wide = o if gate is None else o * gate.unsqueeze(2), torch.promote_types(o.dtype, torch.float32)
    normed, kind = F.layer_norm(gated.to(wide), o.shape[-1:], eps=eps), o.device.type
    with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
        return torch.einsum("k,bkld->bld", weights.to(wide), normed).to(o.dtype)


def gated_sum(o: Tensor, gate: Tensor | None, spatial: Tensor | None) -> Tensor:
    """Return the sum of the gated branches (B, L, D); arguments as in `lmsearch.kernels.gated_sum`, already checked."""
    gated = o if gate is None else o * gate.unsqueeze(2)
    return (gated if spatial is None else gated * spatial.unsqueeze(-1)).sum(1).to(o.dtype)


def normed_mean(o: Tensor, *, eps: float) -> Tensor:
    """Return the mean of the normalised tokens (B, K, D); arguments as in `lmsearch.kernels.normed_mean`, already checked."""
    return F.layer_norm(o, o.shape[-1:], eps=eps).mean(2)
