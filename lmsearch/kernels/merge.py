"""What comes after the scans: the merges of the branches and the mean of their normalised tokens.

Kernels pass over the branches once where plain PyTorch makes several copies of them. Shapes: branches o (B, K, L, D), channel
gate (B, K, D) or None, spatial gate (B, K, L) or None, weights (K,).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lmsearch.kernels import native_merge, reference, triton_merge_ops
from lmsearch.kernels.checks import check_merge
from lmsearch.kernels.ops import Backend, backend_for

FUSED: dict[str, Any] = {"native": native_merge, "triton": triton_merge_ops}  # backends with kernels of their own


def weighted_merge(o: Tensor, gate: Tensor | None, weights: Tensor, *, eps: float, backend: Backend = "auto") -> Tensor:
    """Weighted sum of the gated branches, each row normalised over D without affine: (B, L, D) in o.dtype.

    Raises KernelError for arguments that do not fit.
    """
    check_merge(o, gate, weights)
    y: Tensor = functions(backend, o).weighted_merge(o, gate, weights, eps=eps)
    return y


def gated_sum(o: Tensor, gate: Tensor | None, spatial: Tensor | None, *, backend: Backend = "auto") -> Tensor:
    """Sum of the gated branches: (B, L, D) in o.dtype.

    Raises KernelError for arguments that do not fit.
    """
    check_merge(o, gate, spatial=spatial)
    y: Tensor = functions(backend, o).gated_sum(o, gate, spatial)
    return y


def normed_mean(o: Tensor, *, eps: float, backend: Backend = "auto") -> Tensor:
    """Mean over the tokens of the rows of o, each normalised over D without affine: (B, K, D) in o.dtype.

    Raises KernelError for another number of axes.
    """
    check_merge(o)
    y: Tensor = functions(backend, o).normed_mean(o, eps=eps)
    return y


def functions(backend: Backend, o: Tensor) -> Any:
    """Return what holds these functions of a backend: its own kernels, else plain PyTorch."""
    return FUSED.get(backend_for(backend, o), reference) if isinstance(backend, str) else reference
