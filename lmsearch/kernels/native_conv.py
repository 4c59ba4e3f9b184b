"""The native causal convolution with silu as a PyTorch operator: forward, backward, shapes for tracing, autograd.

Shapes: B batch, K directions, L tokens, D channels, W taps; raster order; everything in float32.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from lmsearch.kernels import transforms
from lmsearch.kernels.native_library import (
    ConvArgs,
    address,
    by_direction,
    call,
    refuse_second_derivative,
    rows,
    strides,
)

CONV = "Tensor x, Tensor weight, Tensor? bias, Tensor order"


def _conv_args(x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor) -> tuple[ctypes.Structure, list[Tensor | None]]:
    x, weight, order = rows(x), weight.contiguous(), order.contiguous()
    bias = None if bias is None else bias.contiguous()
    k, d, taps = weight.shape
    args = ConvArgs(
        B=x.shape[0],
        K=k,
        L=x.shape[1],
        D=d,
        W=taps,
        threads=torch.get_num_threads(),
        x=address(x),
        weight=address(weight),
        bias=address(bias),
        order=address(order),
        **strides("x", x, "bl"),
    )
    return args, [x, weight, bias, order]


def _conv_shape(x: Tensor, weight: Tensor) -> tuple[int, ...]:
    return x.shape[0], weight.shape[0], x.shape[1], x.shape[2]


@torch.library.custom_op("lmsearch::native_conv", mutates_args=(), device_types="cpu", schema=f"({CONV}) -> Tensor")
def native_conv(x, weight, bias, order):
    """Return silu of the convolution, (B, K, L, D), in memory (K, B, L, D)."""
    y = by_direction(_conv_shape(x, weight), x)
    if y.numel():
        args, _kept = _conv_args(x, weight, bias, order)
        args.y = y.data_ptr()
        call("lms_conv_forward", args)
    return y


@native_conv.register_fake
def _(x, weight, bias, order):
    return by_direction(_conv_shape(x, weight), x)


@torch.library.custom_op(
    "lmsearch::native_conv_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor dy, {CONV}) -> (Tensor, Tensor, Tensor)",
)
def native_conv_backward(dy, x, weight, bias, order):
    """Return the gradients of x, weight and bias (empty where that is absent)."""
    grads = [torch.empty(0 if t is None else t.shape, dtype=torch.float32) for t in (x, weight, bias)]
    if dy.numel() == 0:
        return tuple(g.zero_() for g in grads)
    args, _kept = _conv_args(x, weight, bias, order)
    dy = rows(dy)
    args.dy, args.dx, args.dweight = dy.data_ptr(), grads[0].data_ptr(), grads[1].data_ptr()
    args.dbias = None if bias is None else grads[2].data_ptr()
    args.dy_b, args.dy_k, args.dy_l, _ = dy.stride()
    call("lms_conv_backward", args)
    return tuple(grads)


@native_conv_backward.register_fake
def _(dy, x, weight, bias, order):
    return tuple(dy.new_empty(0 if t is None else t.shape) for t in (x, weight, bias))


def _conv_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _conv_backward(ctx, dy):
    transforms.refuse_forward_mode("native")
    saved = ctx.saved_tensors  # once only: under activation checkpointing reading them recomputes the forward
    dx, dweight, dbias = native_conv_backward(dy, *saved)
    return dx, dweight, None if saved[2] is None else dbias, None


native_conv.register_autograd(_conv_backward, setup_context=_conv_setup)
native_conv_backward.register_autograd(refuse_second_derivative)
