"""mamba-ssm's scan in plain PyTorch, which code asks for to compare with the fast one."""

from __future__ import annotations

from torch import Tensor

from lmsearch.kernels import selective_scan_fn


def selective_scan_ref(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """`selective_scan_fn` on the reference backend. Source: mamba_ssm/ops/selective_scan_interface.py of mamba-ssm 2.3.2."""
    return selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state, backend="reference")
