"""Forward-mode differentiation, which only plain PyTorch does: the kernels would drop the tangents without a word."""

from __future__ import annotations

from torch.autograd import forward_ad

from lmsearch.errors import KernelError


def is_open() -> bool:
    """True within `torch.func.jvp`, what builds on it (jacfwd, hessian, linearize) and `forward_ad.dual_level`.

    Which tensors carry tangents cannot be told under nested transforms; that a level is open always can.
    """
    return forward_ad._current_level >= 0


def refuse(backend: str) -> None:
    """Raise KernelError within forward-mode differentiation."""
    if is_open():
        raise KernelError(f"backend={backend!r} has no forward-mode derivatives; use backend='reference' for them")
