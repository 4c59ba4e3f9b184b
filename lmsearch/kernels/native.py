"""The native CPU backend: the C++ kernels of csrc/ as PyTorch operators with autograd, torch.compile and export.

Shapes: B batch, K directions, L tokens, D channels, N states, W taps; raster order. The kernels compute in float32;
half precision is converted at the door. LMSEARCH_REQUIRE_NATIVE=1 turns a missing library into an error. There are no
second derivatives, no forward-mode ones and none within torch.func: use backend="reference" for those.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from lmsearch.errors import BackendUnavailableError, KernelError
from lmsearch.kernels.native_conv import native_conv
from lmsearch.kernels.native_library import MAX_TAPS, instruction_set
from lmsearch.kernels.native_scan import native_scan


def unavailable_reason(device: torch.device) -> str | None:
    """Return why the native kernels cannot run on `device`, or None; raise instead where LMSEARCH_REQUIRE_NATIVE=1."""
    if device.type != "cpu":
        return f"the native backend runs on cpu tensors, not {device.type}"
    try:
        instruction_set()
    except BackendUnavailableError as error:
        if os.environ.get("LMSEARCH_REQUIRE_NATIVE") == "1":
            raise BackendUnavailableError(f"LMSEARCH_REQUIRE_NATIVE=1, but {error}") from error
        return str(error)
    return None


def _single(x: Tensor, tensors: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """Return the tensors in float32; raise KernelError where x is float64, which only the reference computes."""
    if x.dtype == torch.float64:
        raise KernelError("backend='native' computes in float32 and x is torch.float64; use backend='reference' or 'auto'")
    return [None if t is None else t.float() for t in tensors]


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
    delta_weight: Tensor | None = None,
) -> Tensor:
    """Return y (B, K, L, D) in x.dtype; arguments as in `lmsearch.kernels.directional_scan`, already checked."""
    tensors = _single(x, (x, delta, A, B, C, D, z, delta_bias, delta_weight))
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    *first, z32, bias32, weight32 = tensors
    y, _states = native_scan(*first, order.int(), z32, bias32, reset, weight32, delta_softplus, save)
    return y.to(x.dtype)


def directional_conv(x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor) -> Tensor:
    """Return silu of the convolution (B, K, L, D) in x.dtype; up to 8 taps; arguments already checked."""
    if weight.shape[-1] > MAX_TAPS:
        raise KernelError(f"weight has {weight.shape[-1]} taps; backend='native' takes up to {MAX_TAPS}, 'reference' any number")
    return native_conv(*_single(x, (x, weight, bias)), order.int()).to(x.dtype)
