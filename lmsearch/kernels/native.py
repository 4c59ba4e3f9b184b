"""The native CPU backend: the C++ kernels of csrc/ as PyTorch operators with autograd, torch.compile and export.

Shapes: B batch, K directions, L tokens, D channels, N states, W taps; raster order. The kernels compute in float32;
half precision is converted at the door. LMSEARCH_REQUIRE_NATIVE=1 turns a missing library into an error. There are no
second derivatives: use backend="reference" for those.
"""

from __future__ import annotations

import ctypes
import os

import torch
from torch import Tensor

from lmsearch.errors import BackendUnavailableError, KernelError
from lmsearch.kernels.native_library import CHUNK, MAX_TAPS, PAD, ConvArgs, ScanArgs, call, instruction_set


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


def _rows(t: Tensor) -> Tensor:
    """Return t, copied where its last axis is not dense: the kernels take any other stride."""
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


def _at(t: Tensor | None) -> int | None:
    return None if t is None else t.data_ptr()


def _strides(prefix: str, t: Tensor, names: str) -> dict[str, int]:
    return {f"{prefix}_{n}": s for n, s in zip(names, t.stride(), strict=False)}


def _scan_args(tensors: dict[str, Tensor | None], softplus: bool) -> tuple[ctypes.Structure, list[Tensor | None]]:
    """Return the arguments that forward and backward share, and the tensors that must outlive the call."""
    x, delta, z = _rows(tensors["x"]), _rows(tensors["delta"]), tensors["z"]
    B, C = _rows(tensors["B"]), _rows(tensors["C"])
    A, D, bias = (None if t is None else t.contiguous() for t in (tensors["A"], tensors["D"], tensors["delta_bias"]))
    order, reset = tensors["order"].contiguous(), tensors["reset"]
    z = None if z is None else _rows(z)
    reset = None if reset is None else reset.contiguous()
    b, k, length, d = delta.shape
    args = ScanArgs(
        B=b, K=k, L=length, D=d, N=A.shape[-1], threads=torch.get_num_threads(), softplus=softplus, x_shared=x.dim() == 3,
        x=_at(x), delta=_at(delta), A=_at(A), Bm=_at(B), Cm=_at(C), Dv=_at(D), z=_at(z), bias=_at(bias), order=_at(order),
        reset=_at(reset), **_strides("x", x, "bkl" if x.dim() == 4 else "bl"), **_strides("delta", delta, "bkl"),
        **_strides("B", B, "bkl"), **_strides("C", C, "bkl"), **({} if z is None else _strides("z", z, "bl")),
    )
    return args, [x, delta, A, B, C, D, z, bias, order, reset]


def _states_shape(delta: Tensor, A: Tensor) -> tuple[int, ...]:
    b, k, length, d = delta.shape
    return b, k, (length + CHUNK - 1) // CHUNK, A.shape[-1], (d + PAD - 1) // PAD * PAD


SCAN = "Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor order, Tensor? z, Tensor? delta_bias, Tensor? reset"


@torch.library.custom_op(
    "lmsearch::native_scan", mutates_args=(), device_types="cpu",
    schema=f"({SCAN}, bool delta_softplus, bool save_states) -> (Tensor, Tensor)",
)
def native_scan(x, delta, A, B, C, D, order, z, delta_bias, reset, delta_softplus, save_states):
    """Return y (B, K, L, D) and, where `save_states`, the states at every chunk's start (else an empty tensor)."""
    y = torch.empty(delta.shape, dtype=torch.float32)
    states = torch.empty(_states_shape(delta, A) if save_states else 0, dtype=torch.float32)
    if y.numel():
        tensors = {"x": x, "delta": delta, "A": A, "B": B, "C": C, "D": D, "order": order, "z": z, "delta_bias": delta_bias,
                   "reset": reset}
        args, _kept = _scan_args(tensors, delta_softplus)
        args.y, args.states = y.data_ptr(), states.data_ptr() if save_states else None
        call("lms_scan_forward", args)
    return y, states


@native_scan.register_fake
def _(x, delta, A, B, C, D, order, z, delta_bias, reset, delta_softplus, save_states):
    states = delta.new_empty(_states_shape(delta, A) if save_states else 0)
    return delta.new_empty(delta.shape), states


@torch.library.custom_op(
    "lmsearch::native_scan_backward", mutates_args=(), device_types="cpu",
    schema=f"(Tensor dy, {SCAN}, Tensor states, bool delta_softplus)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def native_scan_backward(dy, x, delta, A, B, C, D, order, z, delta_bias, reset, states, delta_softplus):
    """Return the gradients of x, delta, A, B, C, D, z, delta_bias; empty ones for absent arguments."""
    grads = [torch.empty(0 if t is None else t.shape, dtype=torch.float32) for t in (x, delta, A, B, C, D, z, delta_bias)]
    if delta.numel() == 0:
        return tuple(g.zero_() for g in grads)
    tensors = {"x": x, "delta": delta, "A": A, "B": B, "C": C, "D": D, "order": order, "z": z, "delta_bias": delta_bias,
               "reset": reset}
    args, _kept = _scan_args(tensors, delta_softplus)
    dy = _rows(dy)
    args.dy, args.states = dy.data_ptr(), states.data_ptr()
    args.dy_b, args.dy_k, args.dy_l, _ = dy.stride()
    for name, g in zip(("dx", "ddelta", "dA", "dB", "dC", "dD", "dz", "dbias"), grads, strict=True):
        setattr(args, name, g.data_ptr() if g.numel() else None)
    call("lms_scan_backward", args)
    return tuple(grads)


@native_scan_backward.register_fake
def _(dy, x, delta, A, B, C, D, order, z, delta_bias, reset, states, delta_softplus):
    return tuple(dy.new_empty(0 if t is None else t.shape) for t in (x, delta, A, B, C, D, z, delta_bias))


def _scan_setup(ctx, inputs, output):
    *tensors, ctx.softplus, ctx.saved = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(True)


def _scan_backward(ctx, dy, _dstates):
    *tensors, states = ctx.saved_tensors
    if not ctx.saved:
        raise KernelError("native_scan was called with save_states=False; a backward needs the saved states")
    dx, ddelta, dA, dB, dC, dD, dz, dbias = native_scan_backward(dy, *tensors, states, ctx.softplus)
    D, z, bias = tensors[5], tensors[7], tensors[8]
    return (dx, ddelta, dA, dB, dC, dD if D is not None else None, None, dz if z is not None else None,
            dbias if bias is not None else None, None, None, None)


native_scan.register_autograd(_scan_backward, setup_context=_scan_setup)


CONV = "Tensor x, Tensor weight, Tensor? bias, Tensor order"


def _conv_args(x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor) -> tuple[ctypes.Structure, list[Tensor | None]]:
    x, weight, order = _rows(x), weight.contiguous(), order.contiguous()
    bias = None if bias is None else bias.contiguous()
    k, d, taps = weight.shape
    args = ConvArgs(
        B=x.shape[0], K=k, L=x.shape[1], D=d, W=taps, threads=torch.get_num_threads(), x=_at(x), weight=_at(weight),
        bias=_at(bias), order=_at(order), **_strides("x", x, "bl"),
    )
    return args, [x, weight, bias, order]


def _conv_shape(x: Tensor, weight: Tensor) -> tuple[int, ...]:
    return x.shape[0], weight.shape[0], x.shape[1], x.shape[2]


@torch.library.custom_op("lmsearch::native_conv", mutates_args=(), device_types="cpu", schema=f"({CONV}) -> Tensor")
def native_conv(x, weight, bias, order):
    """Return silu of the convolution, (B, K, L, D)."""
    y = torch.empty(_conv_shape(x, weight), dtype=torch.float32)
    if y.numel():
        args, _kept = _conv_args(x, weight, bias, order)
        args.y = y.data_ptr()
        call("lms_conv_forward", args)
    return y


@native_conv.register_fake
def _(x, weight, bias, order):
    return x.new_empty(_conv_shape(x, weight))


@torch.library.custom_op(
    "lmsearch::native_conv_backward", mutates_args=(), device_types="cpu",
    schema=f"(Tensor dy, {CONV}) -> (Tensor, Tensor, Tensor)",
)
def native_conv_backward(dy, x, weight, bias, order):
    """Return the gradients of x, weight and bias (empty where that is absent)."""
    grads = [torch.empty(0 if t is None else t.shape, dtype=torch.float32) for t in (x, weight, bias)]
    if dy.numel() == 0:
        return tuple(g.zero_() for g in grads)
    args, _kept = _conv_args(x, weight, bias, order)
    dy = _rows(dy)
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
    saved = ctx.saved_tensors  # once only: under activation checkpointing reading them recomputes the forward
    dx, dweight, dbias = native_conv_backward(dy, *saved)
    return dx, dweight, None if saved[2] is None else dbias, None


def _no_second_derivative(ctx, *grads):
    raise KernelError("the native scan has no second derivatives; use backend='reference' for them")


native_conv.register_autograd(_conv_backward, setup_context=_conv_setup)
for _op in (native_scan_backward, native_conv_backward):
    _op.register_autograd(_no_second_derivative)


def _single(x: Tensor, tensors: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """Return the tensors in float32; raise KernelError where x is float64, which only the reference computes."""
    if x.dtype == torch.float64:
        raise KernelError("backend='native' computes in float32 and x is torch.float64; use backend='reference' or 'auto'")
    return [None if t is None else t.float() for t in tensors]


def directional_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, order: Tensor, *,
    z: Tensor | None = None, delta_bias: Tensor | None = None, delta_softplus: bool = False, reset: Tensor | None = None,
) -> Tensor:
    """Return y (B, K, L, D) in x.dtype; arguments as in `lmsearch.kernels.directional_scan`, already checked."""
    tensors = _single(x, (x, delta, A, B, C, D, z, delta_bias))
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    *first, z32, bias32 = tensors
    y, _states = native_scan(*first, order.int(), z32, bias32, reset, delta_softplus, save)
    return y.to(x.dtype)


def directional_conv(x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor) -> Tensor:
    """Return silu of the convolution (B, K, L, D) in x.dtype; up to 8 taps; arguments already checked."""
    if weight.shape[-1] > MAX_TAPS:
        raise KernelError(f"weight has {weight.shape[-1]} taps; backend='native' takes up to {MAX_TAPS}, 'reference' any number")
    return native_conv(*_single(x, (x, weight, bias)), order.int()).to(x.dtype)
