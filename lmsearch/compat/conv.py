"""The causal depthwise convolution with the signatures of causal-conv1d.

Shapes: B batch, D channels, L tokens, W taps, S tokens that a state holds. Source of both functions: causal_conv1d/
causal_conv1d_interface.py of causal-conv1d 1.6.1. Wider than there: any layout, any number of channels and taps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lmsearch.errors import KernelError
from lmsearch.kernels import directional_conv
from lmsearch.kernels.checks import check_floats, check_shape
from lmsearch.kernels.orders import time_orders

SILU = ("silu", "swish")


def check(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> None:
    """Raise KernelError unless x (B, D, L), weight (D, W) and bias (D,) fit together and the activation is known."""
    if activation not in (None, *SILU):
        raise KernelError(f"activation={activation!r}; accepted: None, silu, swish")
    if x.dim() != 3 or weight.dim() != 2:
        raise KernelError(f"x has shape {tuple(x.shape)} and weight {tuple(weight.shape)}; expected (B, D, L) and (D, W)")
    check_shape("weight", weight, (x.shape[1], weight.shape[1]), "(D, W)")
    if bias is not None:
        check_shape("bias", bias, (x.shape[1],), "(D,)")
    check_floats(x.device, {"x": x, "weight": weight, "bias": bias})


def last_taps(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None, count: int) -> Tensor:
    """Return the last `count` outputs, in x.dtype, of the convolution over x (B, D, at least W - 1 + count)."""
    compute = torch.promote_types(x.dtype, torch.float32)
    x32 = x[..., x.shape[-1] - (weight.shape[1] - 1 + count) :].to(compute)
    out = F.conv1d(x32, weight.to(compute).unsqueeze(1), None if bias is None else bias.to(compute), groups=x.shape[1])
    return (out if activation is None else F.silu(out)).to(x.dtype)


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """The causal depthwise convolution of x (B, D, L) with weight (D, W) and bias (D,): (B, D, L) in x.dtype.

    `initial_states` (B, D, W - 1) comes before x; with `return_final_states` the last W - 1 inputs are returned as well,
    written into `final_states_out` where that is given. `activation` is None, silu or swish. Raises KernelError for
    `seq_idx`, which is not served, and for arguments that do not fit.
    """
    if seq_idx is not None:
        raise KernelError("lmsearch.compat: causal_conv1d_fn is not served with seq_idx; expected None")
    check(x, weight, bias, activation)
    batch, channels, length = x.shape
    before = (batch, channels, weight.shape[1] - 1)
    if initial_states is not None:
        check_shape("initial_states", initial_states, before, "(B, D, W - 1)")
    if activation is not None and initial_states is None:
        rows = None if bias is None else bias.unsqueeze(0)
        out = directional_conv(x.transpose(1, 2), weight.unsqueeze(0), rows, time_orders(length, x.device))[:, 0].transpose(1, 2)
    else:
        first = x.new_zeros(before) if initial_states is None else initial_states.to(x.dtype)
        out = last_taps(torch.cat([first, x], dim=-1), weight, bias, activation, length)
    channel_last = x.stride(1) == 1 and x.stride(2) > 1
    out = out.transpose(1, 2).contiguous().transpose(1, 2) if channel_last else out.contiguous()
    if not return_final_states:
        return out
    seen = x if initial_states is None else torch.cat([initial_states.to(x.dtype), x], dim=-1)
    final = F.pad(seen, (before[2] - seen.shape[-1], 0))  # crops where there are more tokens
    return out, final if final_states_out is None else final_states_out.copy_(final)


@torch.no_grad()
def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """The convolution of the tokens x, (B, D) or (B, D, L), after those that conv_state (B, D, S), S >= W - 1, holds.

    conv_state takes the new tokens in place: it moves on, or with `cache_seqlens` (B,) it is a ring that is written from
    `cache_seqlens % S` on. `conv_state_indices` (B,) names the rows of a larger conv_state. Returns x's shape and dtype,
    without gradient, as the original. Raises KernelError for arguments that do not fit.
    """
    tokens = x.unsqueeze(-1) if x.dim() == 2 else x
    check(tokens, weight, bias, activation)
    batch, channels, length = tokens.shape
    size, taps = conv_state.shape[-1], weight.shape[1]
    state = conv_state if conv_state_indices is None else conv_state[conv_state_indices.long()]
    check_shape("conv_state", state, (batch, channels, size), "(B, D, S)")
    if size < taps - 1:
        raise KernelError(f"conv_state holds {size} tokens; expected at least W - 1 = {taps - 1}")
    if cache_seqlens is None:
        seen = torch.cat([state, tokens.to(state.dtype)], dim=-1)
        state = seen[..., -size:]
    else:
        check_shape("cache_seqlens", cache_seqlens, (batch,), "(B,)")
        at = torch.arange(1 - taps, length, device=x.device) + cache_seqlens.long().unsqueeze(1)  # (B, W - 1 + L)
        at = at.remainder(size).unsqueeze(1).expand(-1, channels, -1)
        seen = torch.cat([state.gather(2, at[..., : taps - 1]), tokens.to(state.dtype)], dim=-1)
        state = state.scatter(2, at[..., taps - 1 :], tokens.to(state.dtype))
    out = last_taps(seen, weight, bias, activation, length).to(x.dtype)
    if conv_state_indices is None:
        conv_state.copy_(state)
    else:
        conv_state[conv_state_indices.long()] = state
    return out.squeeze(-1) if x.dim() == 2 else out
