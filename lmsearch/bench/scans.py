"""The scan alone: its random workload, and every implementation of it that can be called here, ours and the peers'.

Shapes: B batch, L tokens, D channels, N states; one direction. Peers take what they are made for: a scan along time,
with tensors that already lie in the order of the visit, so that the permutation costs them nothing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lmsearch.bench import jax_scan, onnx_scan
from lmsearch.errors import BackendUnavailableError
from lmsearch.kernels import directional_scan, mamba_ssm
from lmsearch.kernels.build import find_compiler


@dataclass(frozen=True)
class ScanShape:
    """Sizes of a scan: batch, directions, tokens, channels, states."""

    batch: int
    directions: int
    tokens: int
    channels: int
    states: int = 16

    @property
    def elements(self) -> int:
        """B * K * L * D * N, what throughput is counted in."""
        return self.batch * self.directions * self.tokens * self.channels * self.states

    def __str__(self) -> str:
        return f"B{self.batch} K{self.directions} L{self.tokens} D{self.channels} N{self.states}"


def scan_tensors(shape: ScanShape, *, seed: int, device: str = "cpu") -> tuple[dict[str, Tensor], Tensor]:
    """Return (x, delta, A, B, C, D as leaves in float32, a random order table) in raster order; delta is a positive step."""
    b, k, length, d, n = shape.batch, shape.directions, shape.tokens, shape.channels, shape.states
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    tensors = {
        "x": normal(b, length, d),
        "delta": 1e-3 + 0.1 * torch.rand(b, k, length, d, generator=generator),
        "A": -(torch.arange(n) + 1.0).expand(k, d, n).contiguous(),
        "B": normal(b, k, length, n),
        "C": normal(b, k, length, n),
        "D": normal(k, d),
    }
    order = torch.stack([torch.randperm(length, generator=generator) for _ in range(k)]).int()
    return {name: t.to(device).requires_grad_() for name, t in tensors.items()}, order.to(device)


def ours(tensors: dict[str, Tensor], order: Tensor, backend: str) -> Callable[[], Tensor]:
    """Return our operator on these tensors."""
    options: dict[str, Any] = {**tensors}
    return lambda: directional_scan(**options, order=order, backend=backend)


def discretised(delta: Tensor, A: Tensor, B: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return exp(delta A) and delta B x, each (B, L, D, N)."""
    return torch.exp(delta.unsqueeze(-1) * A), (delta * x).unsqueeze(-1) * B.unsqueeze(2)


def token_step(h: Tensor | int, dt: Tensor, dtx: Tensor, b: Tensor, c: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state (B, D, N) after a token, and what it gives (B, D)."""
    h = torch.exp(dt.unsqueeze(-1) * A) * h + dtx.unsqueeze(-1) * b.unsqueeze(1)
    return h, torch.matmul(h, c.unsqueeze(-1)).squeeze(-1)


def eager_loop(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Channel-last loop over time, every tensor unbound once, so that its backward pass is linear in L: (B, L, D)."""
    h: Tensor | int = 0
    out = []
    for dt, dtx, b, c in zip(*(t.unbind(1) for t in (delta, delta * x, B, C)), strict=True):
        h, y = token_step(h, dt, dtx, b, c, A)
        out.append(y)
    return torch.stack(out, dim=1) + D * x


@lru_cache(maxsize=1)
def compiled_step() -> Callable[..., tuple[Tensor, Tensor]]:
    """Return `token_step`, compiled by PyTorch; the whole loop, unrolled, would take minutes to compile."""
    return torch.compile(token_step, dynamic=False, fullgraph=True)


def compiled_loop(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The same loop around a compiled token: (B, L, D)."""
    h, out, step = x.new_zeros(x.shape[0], *A.shape), [], compiled_step()
    for tokens in zip(*(t.unbind(1) for t in (delta, delta * x, B, C)), strict=True):
        h, y = step(h, *(t.contiguous() for t in tokens), A)  # alike for all tokens, so that it is compiled once
        out.append(y)
    return torch.stack(out, dim=1) + D * x


def mambapy_scan(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """mambapy's parallel scan: (B, L, D)."""
    from mambapy.pscan import pscan

    h = pscan(*discretised(delta, A, B, x))  # (B, L, D, N)
    return torch.matmul(h, C.unsqueeze(-1)).squeeze(-1) + D * x


def transformers_scan(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The slow path of transformers' Mamba (channel-first, its backward pass is quadratic in L): (B, L, D)."""
    from transformers.models.mamba.modeling_mamba import mamba_selective_scan

    first = [t.transpose(1, 2) for t in (x, delta)]
    return mamba_selective_scan(*first, A, B.transpose(1, 2), C.transpose(1, 2), D).transpose(1, 2)


def mamba_ssm_scan(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """mamba-ssm's CUDA scan: (B, L, D)."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    tokens = [t.transpose(1, 2).contiguous() for t in (x, delta, B, C)]
    return selective_scan_fn(tokens[0], tokens[1], A, tokens[2], tokens[3], D).transpose(1, 2)


@dataclass(frozen=True)
class Peer:
    """Someone else's scan: the function, and why it cannot run on a device (None where it can).

    `gradients`: whether it has a backward pass; `compiles`: whether it is compiled here first, which takes long.
    """

    scan: Callable[..., Tensor]
    unavailable: Callable[[str], str | None]
    gradients: bool = True
    compiles: bool = False

    def absent(self, device: str, *, quick: bool) -> str | None:
        """Return why it is not compared on a device, None where it is; with `quick` nothing is compiled."""
        if quick and self.compiles:
            return "compiled first, which takes long: not with quick=true"
        return self.unavailable(device)


def _without_compiler(device: str) -> str | None:
    try:
        find_compiler()
    except BackendUnavailableError as error:
        return str(error)
    return None


def _without_mambapy(device: str) -> str | None:
    return None if importlib.util.find_spec("mambapy") else "not installed; run: python -m pip install --no-deps mambapy"


def _without_transformers(device: str) -> str | None:
    if importlib.util.find_spec("transformers") is None:
        return "not installed; run: python -m pip install 'transformers>=5,<6'"
    from transformers.models.mamba import modeling_mamba

    if not hasattr(modeling_mamba, "mamba_selective_scan"):
        return "this version has no scan of its own; run: python -m pip install -U 'transformers>=5,<6'"
    return None


PEERS = {
    "eager loop": Peer(eager_loop, lambda device: None),
    "eager loop, token compiled": Peer(compiled_loop, _without_compiler, compiles=True),
    "mambapy": Peer(mambapy_scan, _without_mambapy),
    "transformers": Peer(transformers_scan, _without_transformers),
    "onnxruntime Scan": Peer(onnx_scan.onnxruntime_scan, onnx_scan.unavailable_reason, gradients=False),
    "onnxruntime LinearAttention": Peer(onnx_scan.onnxruntime_linear_attention, onnx_scan.unavailable_reason, gradients=False),
    "JAX lax.scan": Peer(jax_scan.jax_scan, jax_scan.unavailable_reason, compiles=True),
    "mamba-ssm": Peer(mamba_ssm_scan, lambda device: mamba_ssm.unavailable_reason(torch.device(device))),
}


def peer_tensors(tensors: dict[str, Tensor], order: Tensor) -> dict[str, Tensor]:
    """Return the tensors of one direction (K = 1) in the order of the visit, as leaves: x, delta (B, L, D); B, C (B, L, N)."""
    visit = order[0].long()
    taken = {
        "x": tensors["x"][:, visit],
        **{name: tensors[name][:, 0, visit] for name in ("delta", "B", "C")},
        **{name: tensors[name][0] for name in ("A", "D")},
    }
    return {name: t.detach().contiguous().requires_grad_() for name, t in taken.items()}
