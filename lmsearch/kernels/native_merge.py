"""The merges of branches and the mean of normalised tokens as native PyTorch operators: forward, backward, shapes, autograd.

Shapes: B batch, K directions, L tokens, D channels; everything contiguous and in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lmsearch.kernels import transforms
from lmsearch.kernels.native_library import MergeArgs, address, call, refuse_second_derivative


def _run(function: str, o: Tensor, eps: float = 0.0, **tensors: Tensor | None) -> None:
    """Call a C function on o (B, K, L, D) and the tensors named as its arguments."""
    b, k, length, d = o.shape
    pointers = {name: address(t) for name, t in tensors.items()}
    call(function, MergeArgs(B=b, K=k, L=length, D=d, threads=torch.get_num_threads(), eps=eps, x=address(o), **pointers))


def _like(*tensors: Tensor | None) -> list[Tensor]:
    return [torch.empty(0 if t is None else t.shape, dtype=torch.float32) for t in tensors]


def _moments(o: Tensor) -> Tensor:
    return o.new_empty((*o.shape[:3], 2))


@torch.library.custom_op(
    "lmsearch::native_merge",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor o, Tensor? gate, Tensor weights, float eps) -> (Tensor, Tensor)",
)
def native_merge(o, gate, weights, eps):
    """Return the merge (B, L, D) and the moments of every row (B, K, L, 2)."""
    o, gate, weights = o.contiguous(), None if gate is None else gate.contiguous(), weights.contiguous()
    y, moments = o.new_zeros(o.shape[0], *o.shape[2:]), _moments(o)
    if o.numel():
        _run("lms_merge_forward", o, eps, gate=gate, weights=weights, y=y, moments=moments)
    return y, moments


@native_merge.register_fake
def _(o, gate, weights, eps):
    return o.new_empty(o.shape[0], *o.shape[2:]), _moments(o)


@torch.library.custom_op(
    "lmsearch::native_merge_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor dy, Tensor o, Tensor? gate, Tensor weights, Tensor moments, float eps) -> (Tensor, Tensor, Tensor)",
)
def native_merge_backward(dy, o, gate, weights, moments, eps):
    """Return the gradients of o, gate (empty where that is absent) and weights."""
    o, gate, weights = o.contiguous(), None if gate is None else gate.contiguous(), weights.contiguous()
    dy, grads = dy.contiguous(), _like(o, gate, weights)
    if not o.numel():
        return tuple(g.zero_() for g in grads)
    do, dgate, dweights = grads
    given = {"gate": gate, "weights": weights, "moments": moments, "dy": dy}
    _run("lms_merge_backward", o, eps, **given, dx=do, dgate=dgate, dweights=dweights)
    return tuple(grads)


@native_merge_backward.register_fake
def _(dy, o, gate, weights, moments, eps):
    return tuple(dy.new_empty(0 if t is None else t.shape) for t in (o, gate, weights))


@torch.library.custom_op(
    "lmsearch::native_normed_mean", mutates_args=(), device_types="cpu", schema="(Tensor o, float eps) -> (Tensor, Tensor)"
)
def native_normed_mean(o, eps):
    """Return the mean over the tokens of the normalised rows (B, K, D) and the moments of every row (B, K, L, 2)."""
    o = o.contiguous()
    y, moments = o.new_zeros(*o.shape[:2], o.shape[3]), _moments(o)
    if o.numel():
        _run("lms_normed_mean_forward", o, eps, y=y, moments=moments)
    return y, moments


@native_normed_mean.register_fake
def _(o, eps):
    return o.new_empty(*o.shape[:2], o.shape[3]), _moments(o)


@torch.library.custom_op(
    "lmsearch::native_normed_mean_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor dy, Tensor o, Tensor moments, float eps) -> Tensor",
)
def native_normed_mean_backward(dy, o, moments, eps):
    """Return the gradient of o."""
    o, dy = o.contiguous(), dy.contiguous()
    (do,) = _like(o)
    if o.numel():
        _run("lms_normed_mean_backward", o, eps, moments=moments, dy=dy, dx=do)
    return do


@native_normed_mean_backward.register_fake
def _(dy, o, moments, eps):
    return dy.new_empty(o.shape)


@torch.library.custom_op(
    "lmsearch::native_gated_sum",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor o, Tensor? gate, Tensor? spatial) -> Tensor",
)
def native_gated_sum(o, gate, spatial):
    """Return the sum of the gated branches (B, L, D); spatial (B, K, L)."""
    o, gate, spatial = (None if t is None else t.contiguous() for t in (o, gate, spatial))
    y = o.new_zeros(o.shape[0], *o.shape[2:])
    if o.numel():
        _run("lms_gated_sum_forward", o, gate=gate, spatial=spatial, y=y)
    return y


@native_gated_sum.register_fake
def _(o, gate, spatial):
    return o.new_empty(o.shape[0], *o.shape[2:])


@torch.library.custom_op(
    "lmsearch::native_gated_sum_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor dy, Tensor o, Tensor? gate, Tensor? spatial) -> (Tensor, Tensor, Tensor)",
)
def native_gated_sum_backward(dy, o, gate, spatial):
    """Return the gradients of o, gate and spatial, empty where these are absent."""
    o, gate, spatial = (None if t is None else t.contiguous() for t in (o, gate, spatial))
    dy, grads = dy.contiguous(), _like(o, gate, spatial)
    if o.numel():
        do, dgate, dspatial = grads
        _run("lms_gated_sum_backward", o, gate=gate, spatial=spatial, dy=dy, dx=do, dgate=dgate, dspatial=dspatial)
    return tuple(grads)


@native_gated_sum_backward.register_fake
def _(dy, o, gate, spatial):
    return tuple(dy.new_empty(0 if t is None else t.shape) for t in (o, gate, spatial))


def _save_gated(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _gated_sum_backward(ctx, dy):
    transforms.refuse_forward_mode("native")
    saved = ctx.saved_tensors
    grads = native_gated_sum_backward(dy, *saved)
    return tuple(None if t is None else grad for grad, t in zip(grads, saved, strict=True))


def _setup(ctx, inputs, output):
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _merge_backward(ctx, dy, _dmoments):
    transforms.refuse_forward_mode("native")
    if dy is None:
        return None, None, None, None
    saved = ctx.saved_tensors  # once only: under activation checkpointing reading them recomputes the forward
    do, dgate, dweights = native_merge_backward(dy, *saved, ctx.eps)
    return do, None if saved[1] is None else dgate, dweights, None


def _normed_mean_backward(ctx, dy, _dmoments):
    transforms.refuse_forward_mode("native")
    return (None if dy is None else native_normed_mean_backward(dy, *ctx.saved_tensors, ctx.eps)), None


native_merge.register_autograd(_merge_backward, setup_context=_setup)
native_normed_mean.register_autograd(_normed_mean_backward, setup_context=_setup)
native_gated_sum.register_autograd(_gated_sum_backward, setup_context=_save_gated)
native_gated_sum_backward.register_autograd(refuse_second_derivative)
native_merge_backward.register_autograd(refuse_second_derivative)
native_normed_mean_backward.register_autograd(refuse_second_derivative)


def weighted_merge(o: Tensor, gate: Tensor | None, weights: Tensor, *, eps: float) -> Tensor:
    """Return the merge (B, L, D) in o.dtype; arguments as in `lmsearch.kernels.weighted_merge`, already checked."""
    y, _moments = native_merge(o.float(), None if gate is None else gate.float(), weights.float(), eps)
    return y.to(o.dtype)


def normed_mean(o: Tensor, *, eps: float) -> Tensor:
    """Return the mean of the normalised tokens (B, K, D) in o.dtype; as in `lmsearch.kernels.normed_mean`, already checked."""
    y, _moments = native_normed_mean(o.float(), eps)
    return y.to(o.dtype)


def gated_sum(o: Tensor, gate: Tensor | None, spatial: Tensor | None) -> Tensor:
    """Return the sum (B, L, D) in o.dtype; arguments as in `lmsearch.kernels.gated_sum`, already checked."""
    y: Tensor = native_gated_sum(o.float(), *(None if t is None else t.float() for t in (gate, spatial)))
    return y.to(o.dtype)
