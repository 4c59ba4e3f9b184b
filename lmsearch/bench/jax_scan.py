"""JAX's scan: `jax.lax.scan` over the tokens, compiled forward and backward by XLA, on one thread. Needs jax."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

THREADS = "PJRT_NPROC"  # how many threads XLA's client starts, read once


def unavailable_reason(device: str) -> str | None:
    """Return why it cannot run here, None where it can."""
    if device != "cpu":
        return "compared on CPUs only"
    return None if importlib.util.find_spec("jax") else "not installed; run: python -m pip install jax"


def jax_scan(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Run the scan: (B, L, D), with gradients."""
    return _Scan.apply(x, delta, A, B, C, D)


@lru_cache(maxsize=1)
def compiled() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Return what XLA compiles: the scan, the scan with what its backward pass needs, and that backward pass."""
    if "jax" not in sys.modules:
        os.environ.setdefault(THREADS, "1")
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")

    def scan(x: Any, delta: Any, A: Any, B: Any, C: Any, D: Any) -> Any:
        def token(h: Any, inputs: tuple[Any, Any, Any, Any]) -> tuple[Any, Any]:
            dt, dtx, b, c = inputs
            h = jnp.exp(dt[:, :, None] * A) * h + dtx[:, :, None] * b[:, None, :]  # (B, D, N)
            return h, jnp.einsum("bdn,bn->bd", h, c)

        start = jnp.zeros((x.shape[0], *A.shape), x.dtype)
        _, y = jax.lax.scan(token, start, tuple(t.swapaxes(0, 1) for t in (delta, delta * x, B, C)))
        return y.swapaxes(0, 1) + D * x

    return jax.jit(scan), jax.jit(lambda *inputs: jax.vjp(scan, *inputs)), jax.jit(lambda backward, dy: backward(dy))


def from_jax(array: Any) -> Tensor:
    """Return an array of JAX, when it is computed, as a tensor."""
    return torch.from_dlpack(array.block_until_ready())


class _Scan(torch.autograd.Function):
    """The scan as PyTorch differentiates it; XLA keeps what the backward pass needs."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        import numpy as np

        plain, recorded, _ = compiled()
        arrays = [np.asarray(t.detach()) for t in tensors]
        if not any(ctx.needs_input_grad):
            return from_jax(plain(*arrays))
        y, ctx.pull = recorded(*arrays)
        return from_jax(y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return tuple(from_jax(g) for g in compiled()[2](ctx.pull, grads[0].contiguous().numpy()))
