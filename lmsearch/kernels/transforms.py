"""Derivatives that only plain PyTorch takes: forward mode, and those of torch.func.

In forward mode the kernels would drop tangents without a word; within torch.func.grad PyTorch refuses their operators.
"""

from __future__ import annotations

import torch
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.autograd import forward_ad

from lmsearch.errors import KernelError

FORWARD = "has no forward-mode derivatives"
FUNCTIONAL = "has no derivatives within torch.func (grad, vjp, jacrev)"


def in_forward_mode() -> bool:
    """True within `torch.func.jvp`, what builds on it (jacfwd, hessian, linearize) and `forward_ad.dual_level`.

    Which tensors carry tangents cannot be told under nested transforms; that a level is open always can.
    """
    return forward_ad._current_level >= 0


def in_functional_gradient() -> bool:
    """True within `torch.func.grad` and what builds on it (vjp, jacrev), alone or under `vmap`; not told under torch.compile."""
    if torch.compiler.is_compiling():
        return False
    return any(level.key() == TransformType.Grad for level in get_interpreter_stack() or ())


def missing() -> str:
    """Return what is to be said of the kernels where their derivatives are asked for and they have none, else ""."""
    if in_forward_mode():
        return FORWARD
    return FUNCTIONAL if in_functional_gradient() else ""


def refusal(backend: str, what: str) -> KernelError:
    """Return the error of a backend that lacks derivatives; `what` is FORWARD or FUNCTIONAL."""
    return KernelError(f"backend={backend!r} {what}; use backend='reference' for them")


def refuse_forward_mode(backend: str) -> None:
    """Raise KernelError within forward-mode differentiation."""
    if in_forward_mode():
        raise refusal(backend, FORWARD)
