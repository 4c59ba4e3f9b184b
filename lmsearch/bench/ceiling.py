"""What this machine can do at best, measured on the spot: exponentials, multiply-adds and copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

L1_SIZES = (2048, 4096, 8192, 32768)  # values: source and result within the first or second cache
LARGE = 1 << 24  # values, 64 MiB: beyond the caches
MATRIX = 1024
QUICK_LARGE = 1 << 22


@dataclass(frozen=True)
class Probe:
    """A function and how much work one call of it is."""

    run: Callable[[], None]
    work: int


def exponentials(values: int, device: str) -> Probe:
    """Return torch.exp of `values` numbers in [-1, 0), repeated within one call until about 2 ** 20 are done."""
    source = -torch.rand(values, device=device)
    result = torch.empty_like(source)
    repeats = max(1, (1 << 20) // values)

    def run() -> None:
        for _ in range(repeats):
            torch.exp(source, out=result)

    return Probe(run, repeats * values)


def multiply_adds(side: int, device: str) -> Probe:
    """Return a square float32 matrix product; its work is counted in floating-point operations."""
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    result = torch.empty_like(a)

    def run() -> None:
        torch.matmul(a, b, out=result)

    return Probe(run, 2 * side**3)


def copies(values: int, device: str) -> Probe:
    """Return a copy of `values` float32 numbers; its work is the bytes read and written."""
    source = torch.zeros(values, device=device)
    result = torch.ones_like(source)

    def run() -> None:
        result.copy_(source)

    return Probe(run, 8 * values)


def probes(device: str, *, quick: bool) -> dict[str, Probe]:
    """Return every ceiling under its name: exp, sgemm, copy."""
    large = QUICK_LARGE if quick else LARGE
    return {
        **{f"exp, {size} values": exponentials(size, device) for size in L1_SIZES},
        f"exp, {large} values": exponentials(large, device),
        "sgemm": multiply_adds(MATRIX // 2 if quick else MATRIX, device),
        "copy": copies(large, device),
    }
