"""What every operator on Triton kernels asks of its inputs, and which operators these are."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from lmsearch.errors import KernelError
from lmsearch.kernels import self_test

F = TypeVar("F", bound=self_test.Operator)

OPERATORS: dict[str, self_test.Operator] = {}  # by name in lmsearch.kernels


def on_triton(operator: F) -> F:
    """Note that an operator runs on Triton kernels, so that they are tested before their first use."""
    OPERATORS[operator.__name__] = operator
    return operator


def no_float64(*tensors: Tensor | None) -> None:
    """Raise KernelError for float64."""
    if any(t is not None and t.dtype == torch.float64 for t in tensors):
        raise KernelError("backend='triton' computes in float32; float64 tensors run with backend='reference'")


def tested(x: Tensor) -> None:
    """Let the kernels prove themselves at their first use on a device; a graph that is being traced does not wait for it."""
    if x.device.type == "cuda" and not torch.compiler.is_compiling():
        self_test.ensure(x.device, x.dtype, OPERATORS)


def small(t: Tensor | None) -> Tensor | None:
    """Return parameters as the kernels take them: contiguous, in float32."""
    return None if t is None else t.float().contiguous()
