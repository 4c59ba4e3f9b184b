"""What comes after the scans: the weighted merge of the branches and the mean of their normalised tokens.

The definitions in plain PyTorch, which run on every backend but the native one; that passes over the branches once where
these make several copies of them. Shapes: branches o (B, K, L, D), channel gate (B, K, D) or None, weights (K,).
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from lmsearch.kernels.checks import check_merge
from lmsearch.kernels.native_merge import native_merge, native_normed_mean
from lmsearch.kernels.ops import Backend, is_native


def reference_weighted_merge(o: Tensor, gate: Tensor | None, weights: Tensor, *, eps: float) -> Tensor:
    """`weighted_merge` in plain PyTorch: weights and normalised rows in float32 or wider, which autocast would round."""
    gated, wide = o if gate is None else o * gate.unsqueeze(2), torch.promote_types(o.dtype, torch.float32)
    normed, kind = F.layer_norm(gated.to(wide), o.shape[-1:], eps=eps), o.device.type
    with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
        return torch.einsum("k,bkld->bld", weights.to(wide), normed)


def reference_normed_mean(o: Tensor, *, eps: float) -> Tensor:
    """`normed_mean` in plain PyTorch."""
    return F.layer_norm(o, o.shape[-1:], eps=eps).mean(2)


def weighted_merge(o: Tensor, gate: Tensor | None, weights: Tensor, *, eps: float, backend: Backend = "auto") -> Tensor:
    """Weighted sum of the gated branches, each row normalised over D without affine: (B, L, D) in o.dtype.

    Raises KernelError for arguments that do not fit.
    """
    check_merge(o, gate, weights)
    if not is_native(backend, o):
        return reference_weighted_merge(o, gate, weights, eps=eps).to(o.dtype)
    y, _moments = native_merge(o.float(), None if gate is None else gate.float(), weights.float(), eps)
    return y.to(o.dtype)


def normed_mean(o: Tensor, *, eps: float, backend: Backend = "auto") -> Tensor:
    """Mean over the tokens of the rows of o, each normalised over D without affine: (B, K, D) in o.dtype.

    Raises KernelError for another number of axes.
    """
    check_merge(o)
    if not is_native(backend, o):
        return reference_normed_mean(o, eps=eps)
    y, _moments = native_normed_mean(o.float(), eps)
    return y.to(o.dtype)
