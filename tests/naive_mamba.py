"""Naive twins of what other packages compute, in float64: one channel, one token at a time, straight from the definitions.

Shapes: B batch, D channels, L tokens, N states, R rank of delta, W taps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

# Largest error over largest magnitude, per dtype of the inputs: fp32 rounding of sums, half precision of the results.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}


def naive_scan(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    """One step at a time, one channel's row of B and C at a time: y (B, D, L) and the last state (B, D, N)."""
    batch, channels, length = u.shape
    u, delta, A, B, C = (t.double() for t in (u, delta, A, B, C))

    def at(t, d, step):
        if t.dim() == 2:
            return t[d].expand(batch, -1)
        return t[:, :, step] if t.dim() == 3 else t[:, d // (channels // t.shape[1]), :, step]

    states, columns = [], []
    for d in range(channels):
        dt = delta[:, d] + (0 if delta_bias is None else delta_bias[d].double())
        dt = F.softplus(dt) if delta_softplus else dt
        h, row = torch.zeros(batch, A.shape[1], dtype=torch.float64), []
        for t in range(length):
            h = torch.exp(dt[:, t, None] * A[d]) * h + dt[:, t, None] * at(B, d, t) * u[:, d, t, None]
            row.append((h * at(C, d, t)).sum(-1))
        states.append(h)
        columns.append(torch.stack(row, dim=-1))
    y = torch.stack(columns, dim=1)
    y = y if D is None else y + D.double()[:, None] * u
    return (y if z is None else y * F.silu(z.double())), torch.stack(states, dim=1)


def naive_conv(x, weight, bias=None, initial_states=None, activation=None):
    """Tap by tap: (B, D, L) of x (B, D, L) and weight (D, W), after initial_states (B, D, W - 1)."""
    x, weight = x.double(), weight.double()
    taps, length = weight.shape[1], x.shape[2]
    before = torch.zeros(*x.shape[:2], taps - 1, dtype=torch.float64) if initial_states is None else initial_states.double()
    padded = torch.cat([before, x], dim=2)
    steps = [(padded[:, :, t : t + taps] * weight).sum(-1) for t in range(length)]
    y = torch.stack(steps, dim=-1) + (0 if bias is None else bias.double()[:, None])
    return y if activation is None else y * torch.sigmoid(y)


def naive_inner(xz, conv_weight, conv_bias, x_proj, dt_proj, A, B=None, C=None, D=None, delta_bias=None, B_bias=None,
                C_bias=None, softplus=True, A_b=None):  # fmt: skip
    """The gated scan (B, D, L) of xz (B, 2D, L); with A_b that of the tokens from last to first is added."""
    x, z = xz.double().chunk(2, dim=1)
    u = naive_conv(x, conv_weight[:, 0], conv_bias, activation="silu")
    low = torch.einsum("rd,bdl->brl", x_proj.double(), u)
    rank, n = dt_proj.shape[1], A.shape[1]
    delta = torch.einsum("dr,brl->bdl", dt_proj.double(), low[:, :rank])
    if B is None:
        B = low[:, rank : rank + n] + (0 if B_bias is None else B_bias.double()[:, None])
    if C is None:
        C = low[:, -n:] + (0 if C_bias is None else C_bias.double()[:, None])
    y = naive_scan(u, delta, A, B, C, D, z, delta_bias, softplus)[0]
    if A_b is not None:
        back = [t.flip(-1) for t in (u, delta, B, C, z)]
        y = y + naive_scan(back[0], back[1], A_b, back[2], back[3], D, back[4], delta_bias, softplus)[0].flip(-1)
    return y


def compare(ours: Callable[..., Tensor], naive: Callable[..., Tensor], tensors: Mapping[str, Tensor], tolerance: float) -> Tensor:
    """Assert that `ours` and `naive` agree in their result and in the gradient of every tensor; return our result."""
    results = []
    for function in (ours, naive):
        leaves = {name: t.detach().requires_grad_() for name, t in tensors.items()}  # the strides stay
        y = function(**leaves)
        pull = torch.randn(y.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(torch.bfloat16)
        y.backward(pull.to(y.dtype))
        results.append((y.detach(), {name: t.grad for name, t in leaves.items()}))
    (y, grads), (expected, wanted) = results
    assert_close("result", y, expected, tolerance)
    for name, t in tensors.items():
        assert grads[name] is not None and grads[name].dtype == t.dtype, name
        assert_close(f"gradient of {name}", grads[name], wanted[name], tolerance)
    return y


def assert_close(name: str, got: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Assert that the largest error is at most `tolerance` of the largest magnitude."""
    assert got.shape == wanted.shape, f"{name}: {tuple(got.shape)} where {tuple(wanted.shape)} is expected"
    error = (got.double() - wanted.double()).abs().max() / wanted.double().abs().max().clamp_min(1e-12)
    assert error <= tolerance, f"{name} is off by {error:.1e}, more than {tolerance:.0e}"


def layouts(t: Tensor) -> dict[str, Tensor]:
    """Return t (B, D, L) in memory dense, channel-last, and with gaps between its numbers."""
    gaps = torch.zeros(*t.shape[:-1], 2 * t.shape[-1], dtype=t.dtype)[..., ::2]
    return {"dense": t.contiguous(), "channel-last": t.mT.contiguous().mT, "gaps": gaps.copy_(t)}
