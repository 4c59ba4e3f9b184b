"""The native selective scan as a PyTorch operator: forward, backward, shapes for tracing, autograd.

Shapes: B batch, K directions, L tokens, D channels, N states, R rank of delta; raster order; everything in float32.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from lmsearch.errors import KernelError
from lmsearch.kernels import transforms
from lmsearch.kernels.native_library import (
    CHUNK,
    PAD,
    ScanArgs,
    address,
    by_direction,
    call,
    is_by_direction,
    refuse_second_derivative,
    rows,
    strides,
)


def _scan_args(
    x, delta, A, B, C, D, order, z, bias, reset, weight, *, softplus: bool
) -> tuple[ctypes.Structure, list[Tensor | None]]:
    """Return the arguments that forward and backward share, and the tensors that must outlive the call."""
    x, delta, B, C = rows(x), rows(delta), rows(B), rows(C)
    z = None if z is None else rows(z)
    A, D, bias, order, reset, weight = (None if t is None else t.contiguous() for t in (A, D, bias, order, reset, weight))
    b, k, length, last = delta.shape
    args = ScanArgs(
        B=b,
        K=k,
        L=length,
        D=A.shape[1],
        N=A.shape[-1],
        R=0 if weight is None else last,
        threads=torch.get_num_threads(),
        softplus=softplus,
        x_shared=x.dim() == 3,
        k_major=is_by_direction(delta),
        x=address(x),
        delta=address(delta),
        A=address(A),
        Bm=address(B),
        Cm=address(C),
        Dv=address(D),
        z=address(z),
        bias=address(bias),
        weight=address(weight),
        order=address(order),
        reset=address(reset),
        **strides("x", x, "bkl" if x.dim() == 4 else "bl"),
        **strides("delta", delta, "bkl"),
        **strides("B", B, "bkl"),
        **strides("C", C, "bkl"),
        **({} if z is None else strides("z", z, "bl")),
    )
    return args, [x, delta, A, B, C, D, z, bias, order, reset, weight]


def states_shape(delta: Tensor, A: Tensor) -> tuple[int, ...]:
    """Return the shape of the saved states: (B, K, chunks, N, D, padded)."""
    b, k, length, _ = delta.shape
    return b, k, (length + CHUNK - 1) // CHUNK, A.shape[-1], (A.shape[1] + PAD - 1) // PAD * PAD


def _y_shape(delta: Tensor, A: Tensor) -> tuple[int, ...]:
    return *delta.shape[:3], A.shape[1]


def _gradients(x, delta, A, B, C, D, z, bias, weight) -> list[Tensor]:
    """Return empty gradients; those of the tensors per direction lie in memory as delta does."""
    tensors = (x, delta, A, B, C, D, z, bias, weight)
    every = [delta.new_empty(0 if t is None else t.shape, dtype=torch.float32) for t in tensors]
    if is_by_direction(delta):
        for i in (0, 1, 3, 4):  # x, delta, B, C
            if every[i].dim() == 4:
                every[i] = by_direction(every[i].shape, delta)
    return every


SCAN = (
    "Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor order, Tensor? z, Tensor? delta_bias, Tensor? reset,"
    " Tensor? delta_weight"
)


@torch.library.custom_op(
    "lmsearch::native_scan",
    mutates_args=(),
    device_types="cpu",
    schema=f"({SCAN}, bool delta_softplus, bool save_states) -> (Tensor, Tensor)",
)
def native_scan(x, delta, A, B, C, D, order, z, delta_bias, reset, delta_weight, delta_softplus, save_states):
    """Return y (B, K, L, D) and, where `save_states`, the states at every chunk's start (else an empty tensor)."""
    y = torch.empty(_y_shape(delta, A), dtype=torch.float32)
    states = torch.empty(states_shape(delta, A) if save_states else 0, dtype=torch.float32)
    if y.numel():
        args, _kept = _scan_args(x, delta, A, B, C, D, order, z, delta_bias, reset, delta_weight, softplus=delta_softplus)
        args.y, args.states = y.data_ptr(), states.data_ptr() if save_states else None
        call("lms_scan_forward", args)
    return y, states


@native_scan.register_fake
def _(x, delta, A, B, C, D, order, z, delta_bias, reset, delta_weight, delta_softplus, save_states):
    states = delta.new_empty(states_shape(delta, A) if save_states else 0)
    return delta.new_empty(_y_shape(delta, A)), states


@torch.library.custom_op(
    "lmsearch::native_scan_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor dy, {SCAN}, Tensor states, bool delta_softplus)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def native_scan_backward(dy, x, delta, A, B, C, D, order, z, delta_bias, reset, delta_weight, states, delta_softplus):
    """Return the gradients of x, delta, A, B, C, D, z, delta_bias, delta_weight; empty ones for absent arguments."""
    delta = rows(delta)  # one layout for what the kernel reads and for the gradients that it writes
    grads = _gradients(x, delta, A, B, C, D, z, delta_bias, delta_weight)
    if delta.numel() == 0:
        return tuple(g.zero_() for g in grads)
    args, _kept = _scan_args(x, delta, A, B, C, D, order, z, delta_bias, reset, delta_weight, softplus=delta_softplus)
    dy = rows(dy)
    args.dy, args.states = dy.data_ptr(), states.data_ptr()
    args.dy_b, args.dy_k, args.dy_l, _ = dy.stride()
    for name, g in zip(("dx", "ddelta", "dA", "dB", "dC", "dD", "dz", "dbias", "dweight"), grads, strict=True):
        setattr(args, name, g.data_ptr() if g.numel() else None)
    call("lms_scan_backward", args)
    return tuple(grads)


@native_scan_backward.register_fake
def _(dy, x, delta, A, B, C, D, order, z, delta_bias, reset, delta_weight, states, delta_softplus):
    return tuple(_gradients(x, rows(delta), A, B, C, D, z, delta_bias, delta_weight))


def _scan_setup(ctx, inputs, output):
    *tensors, ctx.softplus, ctx.saved = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # a zero gradient of the states would cost as much memory as they do


def _scan_backward(ctx, dy, _dstates):
    transforms.refuse_forward_mode("native")
    *tensors, states = ctx.saved_tensors
    if not ctx.saved:
        raise KernelError("native_scan was called with save_states=False; a backward needs the saved states")
    if dy is None:
        return (None,) * 13
    dx, ddelta, dA, dB, dC, dD, dz, dbias, dweight = native_scan_backward(dy, *tensors, states, ctx.softplus)
    D, z, bias, weight = tensors[5], tensors[7], tensors[8], tensors[10]
    return (
        dx,
        ddelta,
        dA,
        dB,
        dC,
        dD if D is not None else None,
        None,
        dz if z is not None else None,
        dbias if bias is not None else None,
        None,
        dweight if weight is not None else None,
        None,
        None,
    )


native_scan.register_autograd(_scan_backward, setup_context=_scan_setup)
native_scan_backward.register_autograd(refuse_second_derivative)
