"""Random arguments for the scan operators, and their comparison with the reference in float64."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from lmsearch import kernels


def poison() -> None:
    """Fill the allocator's free blocks with NaN, so that memory that a kernel forgets to write shows."""
    blocks = [torch.full((size,), float("nan")) for size in (16, 256, 4096, 65536, 1 << 20) for _ in range(4)]
    del blocks


def random_orders(directions: int, length: int) -> Tensor:
    return torch.stack([torch.randperm(length) for _ in range(directions)]).int()


def scan_case(
    batch: int,
    directions: int,
    length: int,
    channels: int,
    states: int,
    *,
    seed: int = 0,
    shared: bool = True,
    skip: bool = True,
    gate: bool = True,
    softplus: bool = True,
    reset: bool = False,
    rank: int | None = None,
) -> tuple[dict[str, Tensor | None], dict]:
    """Return (differentiable arguments, the others) of directional_scan in float32."""
    torch.manual_seed(seed)
    b, k, length, d, n = batch, directions, length, channels, states
    tensors = {
        "x": torch.randn(b, length, d) if shared else torch.randn(b, k, length, d),
        "delta": torch.randn(b, k, length, d) - 1 if softplus else 0.3 * torch.rand(b, k, length, d),
        "A": -n * torch.rand(k, d, n) - 0.05,
        "B": torch.randn(b, k, length, n),
        "C": torch.randn(b, k, length, n),
        "D": torch.randn(k, d) if skip else None,
        "z": torch.randn(b, length, d) if gate else None,
        "delta_bias": 0.3 * torch.randn(k, d) if softplus else None,
    }
    if rank is not None:
        tensors |= {"delta": torch.randn(b, k, length, rank), "delta_weight": 0.5 * torch.randn(k, d, rank)}
    others = {
        "order": random_orders(k, length),
        "delta_softplus": softplus,
        "reset": torch.rand(k, length) < 0.1 if reset else None,
    }
    return tensors, others


def scan_and_gradients(tensors: dict, others: dict, backend: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return y and every gradient of sum(y * w) for a fixed random w."""
    leaves = {name: None if t is None else t.detach().to(dtype).requires_grad_() for name, t in tensors.items()}
    poison()
    y = kernels.directional_scan(**leaves, **others, backend=backend)
    w = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    poison()
    (y * w.to(y.dtype)).sum().backward()
    return {"y": y.detach(), **{name: t.grad for name, t in leaves.items() if t is not None}}


def assert_close_to_oracle(got: dict[str, Tensor], oracle: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Assert that every tensor is within `tolerance` of the oracle, relative to the oracle's largest magnitude."""
    assert got.keys() == oracle.keys()
    for name, want in oracle.items():
        assert got[name].shape == want.shape, name
        if want.numel():
            error, scale = (got[name].double() - want).abs().max().item(), want.abs().max().item()
            assert error <= tolerance * scale, f"{name}: error {error:.2e} at scale {scale:.2e}"


def assert_scan_matches_reference(tensors: dict, others: dict, backend: str) -> None:
    oracle = scan_and_gradients(tensors, others, "reference", torch.float64)
    assert_close_to_oracle(scan_and_gradients(tensors, others, backend), oracle)


@cache
def oracle_of(*shape: int, **options: object) -> dict[str, Tensor]:
    """Return what the reference in float64 makes of a case; it is computed once for all kernels that are held against it."""
    return scan_and_gradients(*scan_case(*shape, **options), "reference", torch.float64)


def assert_case_matches_reference(*shape: int, backend: str, **options: object) -> None:
    """Do so for the arguments of scan_case."""
    assert_close_to_oracle(scan_and_gradients(*scan_case(*shape, **options), backend), oracle_of(*shape, **options))
