"""The Triton kernels of the merges as torch operators `lmsearch::triton_*`, with autograd. Triton is imported at the first call.

Shapes: branches o (B, K, L, D), channel gate (B, K, D) or None, spatial gate (B, K, L) or None, weights (K,), moments
(B, K, L, 2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lmsearch.kernels import transforms
from lmsearch.kernels.triton_inputs import no_float64, on_triton, small, tested


@torch.library.custom_op("lmsearch::triton_merge", mutates_args=())
def merge_op(o: Tensor, gate: Tensor | None, weights: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the merge (B, L, D) in o.dtype and the moments of every row."""
    from lmsearch.kernels import triton_merge

    return triton_merge.forward(o, gate, weights, eps)


@merge_op.register_fake
def _merge_fake(o, gate, weights, eps):
    return o.new_empty(o.shape[0], *o.shape[2:]), _moments(o)


@torch.library.custom_op("lmsearch::triton_merge_backward", mutates_args=())
def merge_backward_op(
    dy: Tensor, o: Tensor, gate: Tensor | None, weights: Tensor, moments: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of o, gate (empty where that is absent) and weights."""
    from lmsearch.kernels import triton_merge

    return triton_merge.backward(dy.unsqueeze(1).expand_as(o), o, gate, weights, moments)


@merge_backward_op.register_fake
def _merge_backward_fake(dy, o, gate, weights, moments):
    return o.new_empty(o.shape), moments.new_empty(0 if gate is None else gate.shape), moments.new_empty(weights.shape)


@torch.library.custom_op("lmsearch::triton_normed_mean", mutates_args=())
def mean_op(o: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the mean over the tokens of the normalised rows (B, K, D) in o.dtype and the moments of every row."""
    from lmsearch.kernels import triton_merge

    return triton_merge.mean(o, eps)


@mean_op.register_fake
def _mean_fake(o, eps):
    return o.new_empty(*o.shape[:2], o.shape[3]), _moments(o)


@torch.library.custom_op("lmsearch::triton_normed_mean_backward", mutates_args=())
def mean_backward_op(dy: Tensor, o: Tensor, moments: Tensor) -> Tensor:
    """Return the gradient of o."""
    from lmsearch.kernels import triton_merge

    return triton_merge.backward(dy.unsqueeze(2).expand_as(o), o, None, None, moments)[0]


@mean_backward_op.register_fake
def _mean_backward_fake(dy, o, moments):
    return o.new_empty(o.shape)


@torch.library.custom_op("lmsearch::triton_gated_sum", mutates_args=())
def sum_op(o: Tensor, gate: Tensor | None, spatial: Tensor | None) -> Tensor:
    """Return the sum of the gated branches (B, L, D) in o.dtype."""
    from lmsearch.kernels import triton_merge

    return triton_merge.gated_sum(o, gate, spatial)


@sum_op.register_fake
def _sum_fake(o, gate, spatial):
    return o.new_empty(o.shape[0], *o.shape[2:])


@torch.library.custom_op("lmsearch::triton_gated_sum_backward", mutates_args=())
def sum_backward_op(dy: Tensor, o: Tensor, gate: Tensor | None, spatial: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of o, gate and spatial, empty where these are absent."""
    from lmsearch.kernels import triton_merge

    return triton_merge.gated_sum_backward(dy, o, gate, spatial)


@sum_backward_op.register_fake
def _sum_backward_fake(dy, o, gate, spatial):
    return o.new_empty(o.shape), *(dy.new_empty(0 if t is None else t.shape, dtype=torch.float32) for t in (gate, spatial))


@on_triton
def gated_sum(o: Tensor, gate: Tensor | None, spatial: Tensor | None) -> Tensor:
    """Return the sum (B, L, D) in o.dtype; arguments as in `lmsearch.kernels.gated_sum`, already checked.

    Raises KernelError for float64.
    """
    no_float64(o, gate, spatial)
    tested(o)
    y: Tensor = sum_op(o, small(gate), small(spatial))
    return y


@on_triton
def weighted_merge(o: Tensor, gate: Tensor | None, weights: Tensor, *, eps: float) -> Tensor:
    """Return the merge (B, L, D) in o.dtype; arguments as in `lmsearch.kernels.weighted_merge`, already checked.

    Raises KernelError for float64.
    """
    no_float64(o, gate, weights)
    tested(o)
    y, _ = merge_op(o, small(gate), small(weights), eps)
    return y


@on_triton
def normed_mean(o: Tensor, *, eps: float) -> Tensor:
    """Return the mean of the normalised tokens (B, K, D) in o.dtype; as in `lmsearch.kernels.normed_mean`, already checked.

    Raises KernelError for float64.
    """
    no_float64(o)
    tested(o)
    y, _ = mean_op(o, eps)
    return y


def _moments(o: Tensor) -> Tensor:
    return o.new_empty((*o.shape[:3], 2), dtype=torch.float32)


def _save(ctx, inputs, output) -> None:
    *tensors, _eps = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _merge_grad(ctx, dy, _dmoments):
    transforms.refuse_forward_mode("triton")
    if dy is None:
        return None, None, None, None
    saved = ctx.saved_tensors  # once only: under activation checkpointing reading them recomputes the forward
    do, dgate, dweights = merge_backward_op(dy, *saved)
    return do, None if saved[1] is None else dgate, dweights, None


def _mean_grad(ctx, dy, _dmoments):
    transforms.refuse_forward_mode("triton")
    return (None if dy is None else mean_backward_op(dy, *ctx.saved_tensors)), None


def _save_gated(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _sum_grad(ctx, dy):
    transforms.refuse_forward_mode("triton")
    saved = ctx.saved_tensors
    return tuple(None if t is None else grad for grad, t in zip(sum_backward_op(dy, *saved), saved, strict=True))


sum_op.register_autograd(_sum_grad, setup_context=_save_gated)
merge_op.register_autograd(_merge_grad, setup_context=_save)
mean_op.register_autograd(_mean_grad, setup_context=_save)
