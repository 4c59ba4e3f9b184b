"""Calls of other people's models: lmsearch.compat's functions beside the same call around a peer's scan.

Shapes: B batch, L tokens, D channels, N states, R rank of delta, K groups of channels; channel-first, as the callers have it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lmsearch.bench.gate import Worst, as_float64, results, worst
from lmsearch.bench.released import SCANS, Scan
from lmsearch.bench.scans import PEERS, ScanShape
from lmsearch.compat.extension import oflex_bwd, oflex_fwd
from lmsearch.compat.inner import mamba_inner_fn_no_out_proj
from lmsearch.kernels import selective_scan_fn

TAPS, GROUPS = 4, 4
SCANS_BESIDE = {"eager loop": "eager loop, channel-last", "mambapy": "mambapy"}  # peer -> its scan in SCANS


def mambavision(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
    """Ours, called as MambaVision's mixer does: (B, D, L)."""
    y = selective_scan_fn(u, delta, A, B, C, D, z=None, delta_bias=delta_bias, delta_softplus=True, return_last_state=False)
    assert isinstance(y, Tensor)
    return y


def plain_scan(u, delta, A, B, C, D, delta_bias, *, scan: Scan) -> Tensor:
    """The same around another scan."""
    return scan(u, F.softplus(delta + delta_bias.unsqueeze(-1)), A, B, C, D)


def vim(xz, conv_weight, conv_bias, x_proj, dt_proj, A, D, delta_bias) -> Tensor:
    """Ours, called as one way of Vim's mixer does: (B, D, L)."""
    first = (xz, conv_weight, conv_bias, x_proj, dt_proj)
    return mamba_inner_fn_no_out_proj(*first, A, None, None, D, delta_bias=delta_bias, delta_softplus=True)


def plain_inner(xz, conv_weight, conv_bias, x_proj, dt_proj, A, D, delta_bias, *, scan: Scan) -> Tensor:
    """The same, step by step, around another scan."""
    x, z = xz.chunk(2, dim=1)
    u = F.silu(F.conv1d(x, conv_weight, conv_bias, padding=TAPS - 1, groups=x.shape[1])[..., : x.shape[-1]])
    low = torch.matmul(x_proj, u)  # (B, R + 2 N, L)
    delta, B, C = low.split((dt_proj.shape[1], A.shape[1], A.shape[1]), dim=1)
    return plain_scan(u, torch.matmul(dt_proj, delta), A, B, C, D, delta_bias, scan=scan) * F.silu(z)


class _Oflex(torch.autograd.Function):
    """VMamba's own: forward and backward of its extension as one differentiable function."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, delta_bias):
        out, x, *_ = oflex_fwd(u, delta, A, B, C, D, delta_bias, True, 1, True)
        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, x)
        return out

    @staticmethod
    def backward(ctx, dout):
        u, delta, A, B, C, D, delta_bias, x = ctx.saved_tensors
        return tuple(oflex_bwd(u, delta, A, B, C, D, delta_bias, dout.contiguous(), x, True, 1))


def vmamba(u, delta, A, B, C, D, delta_bias) -> Tensor:
    """Ours, called as VMamba's block does: four orders as groups of one scan, (B, K * D, L)."""
    return _Oflex.apply(u, delta, A, B, C, D, delta_bias)


def plain_groups(u, delta, A, B, C, D, delta_bias, *, scan: Scan) -> Tensor:
    """The same, group by group, around another scan."""
    parts = [t.chunk(GROUPS, dim=dim) for t, dim in ((u, 1), (delta, 1), (A, 0), (D, 0), (delta_bias, 0))]
    groups = zip(*parts, B.unbind(1), C.unbind(1), strict=True)
    return torch.cat([plain_scan(u, dt, a, b, c, d, bias, scan=scan) for u, dt, a, d, bias, b, c in groups], dim=1)


@dataclass(frozen=True)
class Call:
    """One call: ours, the same around another scan, and the sizes of what it takes at a shape."""

    ours: Callable[..., Tensor]
    beside: Callable[..., Tensor]
    sizes: Callable[[ScanShape], dict[str, tuple[int, ...]]]


def _scan_sizes(s: ScanShape, *, groups: tuple[int, ...] = ()) -> dict[str, tuple[int, ...]]:
    d = math.prod(groups) * max(1, s.channels // math.prod(groups))  # what the groups divide
    token, state = (s.batch, d, s.tokens), (s.batch, *groups, s.states, s.tokens)
    return {"u": token, "delta": token, "A": (d, s.states), "B": state, "C": state, "D": (d,), "delta_bias": (d,)}


def _inner_sizes(s: ScanShape) -> dict[str, tuple[int, ...]]:
    d, rank = s.channels, max(1, s.channels // 32)
    first = {"xz": (s.batch, 2 * d, s.tokens), "conv_weight": (d, 1, TAPS), "conv_bias": (d,)}
    projections = {"x_proj": (rank + 2 * s.states, d), "dt_proj": (d, rank)}
    return first | projections | {"A": (d, s.states), "D": (d,), "delta_bias": (d,)}


CALLS = {
    "selective_scan_fn, as MambaVision": Call(mambavision, plain_scan, _scan_sizes),
    "mamba_inner_fn_no_out_proj, as Vim": Call(vim, plain_inner, _inner_sizes),
    "selective_scan_cuda_oflex, as VMamba": Call(vmamba, plain_groups, partial(_scan_sizes, groups=(GROUPS,))),
}


def call_tensors(call: Call, shape: ScanShape, *, seed: int, device: str) -> dict[str, Tensor]:
    """Return what a call takes, as leaves: A negative, the step sizes around 0.05, weights small."""
    g = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(*size, generator=g) for name, size in call.sizes(shape).items()}
    made["A"] = -(torch.arange(shape.states) + 1.0).repeat(len(made["A"]), 1)
    made["delta_bias"] = made["delta_bias"] * 0.5 - 3
    for name in made.keys() & {"x_proj", "dt_proj"}:
        made[name] = made[name] / made[name].shape[1] ** 0.5
    return {name: t.to(device).requires_grad_() for name, t in made.items()}


def beside(call: Call, device: str) -> dict[str, Callable[..., Tensor]]:
    """Return the same call around every other scan that runs on `device`, by the scan's name."""
    able = {name: scan for name, scan in SCANS_BESIDE.items() if PEERS[name].unavailable(device) is None}
    return {name: partial(call.beside, scan=SCANS[scan]) for name, scan in able.items()}


def functions_of(call: Call, tensors: dict[str, Tensor], *, ours: str, device: str) -> dict[str, Callable[[], Tensor]]:
    """Return the call on `tensors`, ours under the name `ours` first."""
    every = {ours: call.ours} | beside(call, device)
    return {who: partial(f, **tensors) for who, f in every.items()}


def check_call(name: str, tensors: dict[str, Tensor], *, device: str) -> dict[str, Worst]:
    """Compare ours and every peer with the eager loop in float64, results and gradients; raise KernelError for a wrong one."""
    call, exact = CALLS[name], as_float64(tensors)
    want = results(partial(call.beside, **exact, scan=SCANS["eager loop"]), exact)
    every = functions_of(call, tensors, ours="lmsearch", device=device)
    return {who: worst(f"{name}: {who}", results(f, tensors), want) for who, f in every.items()}
