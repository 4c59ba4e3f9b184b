"""The Triton (CUDA) backend: the scan and the convolution as torch operators `lmsearch::triton_*`, with autograd.

Shapes: B batch, K directions, L tokens, D channels, N states, W taps; all tensors in raster order. State and sums are
float32 for every input dtype. Triton itself is imported at the first call, so this module imports anywhere.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lmsearch.errors import KernelError
from lmsearch.kernels import self_test, transforms
from lmsearch.kernels.triton_inputs import OPERATORS, no_float64, on_triton, small, tested

if TYPE_CHECKING:
    from lmsearch.kernels.triton_scan import ScanConfig

INSTALL = "python -m pip install 'triton>=3.6'"
OLDEST_GPU = (8, 0)


def interpreted() -> bool:
    """True where TRITON_INTERPRET asks for the interpreter, which runs the kernels on CPU tensors, slowly."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


INTERPRETED_AT_IMPORT = interpreted()  # kernels are compiled or interpreted for good when they are defined


def unavailable_reason(device: torch.device) -> str | None:
    """Return why Triton cannot run on `device`, with the command that would enable it, or None where it can."""
    if importlib.util.find_spec("triton") is None:
        return f"triton is not installed; run: {INSTALL}"
    if INTERPRETED_AT_IMPORT:
        return None
    if device.type != "cuda":
        return (
            "triton needs CUDA tensors; move the model with .to('cuda'), or start Python with TRITON_INTERPRET=1 "
            "to run the slow interpreter"
        )
    if not torch.version.hip and torch.cuda.get_device_capability(device) < OLDEST_GPU:
        return f"triton needs a GPU of compute capability {OLDEST_GPU[0]}.{OLDEST_GPU[1]} or newer; use backend=reference"
    return None


@torch.library.custom_op("lmsearch::triton_scan", mutates_args=())
def scan_op(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    order: Tensor,
    reset: Tensor | None,
    delta_softplus: bool,
    keep_states: bool,
    config: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Return y (B, K, L, D) and the chunk states that the backward starts from (none unless `keep_states`)."""
    from lmsearch.kernels import triton_scan

    return triton_scan.forward(
        x, delta, A, B, C, D, z, delta_bias, order, reset, delta_softplus, keep_states, triton_scan.ScanConfig.from_list(config)
    )


@scan_op.register_fake
def _scan_fake(x, delta, A, B, C, D, z, delta_bias, order, reset, delta_softplus, keep_states, config):
    batch, directions, length, channels = delta.shape
    kept = (length - 1) // config[0] if keep_states else 0
    states = x.new_empty((batch, directions, kept, channels, A.shape[-1]), dtype=torch.float32)
    return x.new_empty(delta.shape), states


@torch.library.custom_op("lmsearch::triton_scan_backward", mutates_args=())
def scan_backward_op(
    dy: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    order: Tensor,
    reset: Tensor | None,
    states: Tensor,
    delta_softplus: bool,
    config: Sequence[int],
) -> list[Tensor]:
    """Return dx (B, K, L, D), ddelta, dA, dB, dC, dD, dz, ddelta_bias; an empty tensor for an absent input."""
    from lmsearch.kernels import triton_scan

    return triton_scan.backward(
        dy, x, delta, A, B, C, D, z, delta_bias, order, reset, states, delta_softplus, triton_scan.ScanConfig.from_list(config)
    )


@scan_backward_op.register_fake
def _scan_backward_fake(dy, x, delta, A, B, C, D, z, delta_bias, order, reset, states, delta_softplus, config):
    like = (x, delta, A, B, C, D, z, delta_bias)
    return [x.new_empty(0) if t is None else torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in like]


def _save_scan(ctx, inputs, output) -> None:
    *tensors, ctx.delta_softplus, _keep_states, ctx.config = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])


def _scan_grad(ctx, dy, _dstates):
    transforms.refuse_forward_mode("triton")
    *tensors, states = ctx.saved_tensors
    grads = scan_backward_op(dy, *tensors, states, ctx.delta_softplus, ctx.config)
    # Both the op and its tensors in the order x, delta, A, B, C, D, z, delta_bias; then order, reset and the options.
    return *(None if t is None else g for g, t in zip(grads, tensors[:8], strict=True)), *[None] * 5


scan_op.register_autograd(_scan_grad, setup_context=_save_scan)


@torch.library.custom_op("lmsearch::triton_conv", mutates_args=())
def conv_op(x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor) -> Tensor:
    """Return silu of the causal depthwise convolution along each order: (B, K, L, D) in x.dtype."""
    from lmsearch.kernels import triton_conv

    return triton_conv.forward(x, weight, bias, order)


@conv_op.register_fake
def _conv_fake(x, weight, bias, order):
    return x.new_empty((x.shape[0], order.shape[0], *x.shape[1:]))


@torch.library.custom_op("lmsearch::triton_conv_backward", mutates_args=())
def conv_backward_op(dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx (B, L, D), dweight (K, D, W) and dbias (K, D), computed with or without a bias."""
    from lmsearch.kernels import triton_conv

    return triton_conv.backward(dy, x, weight, bias, order)


@conv_backward_op.register_fake
def _conv_backward_fake(dy, x, weight, bias, order):
    return x.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(weight.shape[:2])


def _save_conv(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _conv_grad(ctx, dy):
    transforms.refuse_forward_mode("triton")
    x, weight, bias, order = ctx.saved_tensors
    dx, dweight, dbias = conv_backward_op(dy, x, weight, bias, order)
    return dx, dweight, None if bias is None else dbias, None


conv_op.register_autograd(_conv_grad, setup_context=_save_conv)


def self_tested(device: torch.device, dtype: torch.dtype) -> str:
    """Return "passed", or what is wrong with the kernels on a CUDA device; tests them if nobody has yet."""
    try:
        self_test.ensure(device, dtype, OPERATORS)
    except KernelError as error:
        return str(error)
    return "passed"


@on_triton
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
    config: ScanConfig | None = None,
) -> Tensor:
    """Return y (B, K, L, D) in x.dtype; arguments as in `lmsearch.kernels.directional_scan`, already checked.

    `config` cuts the work into chunks, blocks and warps; None takes the defaults. Raises KernelError for float64, and where
    the kernels fail their test on this device.
    """
    from lmsearch.kernels.triton_scan import ScanConfig

    no_float64(x, delta, A, B, C, D, z, delta_bias)
    tested(x)
    config = config or ScanConfig()
    tensors = (x, delta, A, B, C, D, z, delta_bias)
    keep_states = config.save_states and torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if x.dim() == 3:
        x = x.unsqueeze(1).expand_as(delta)
    y, _ = scan_op(
        x,
        delta,
        small(A),
        B,
        C,
        small(D),
        z,
        small(delta_bias),
        order.to(torch.int32).contiguous(),
        None if reset is None else reset.contiguous(),
        delta_softplus,
        keep_states,
        config.as_list(),
    )
    return y


@on_triton
def directional_conv(x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor) -> Tensor:
    """Return (B, K, L, D) in x.dtype; arguments as in `lmsearch.kernels.directional_conv`, already checked."""
    no_float64(x, weight, bias)
    tested(x)
    return conv_op(x, small(weight), small(bias), order.to(torch.int32).contiguous())
