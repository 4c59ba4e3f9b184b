"""The mamba_ssm backend (optional, CUDA): the public selective scan called once for all K directions.

Shapes: B batch, K directions, L tokens, D channels, N states. The directions become K groups of D channels; tables
gather the inputs into the order of the visit before the call and bring the result back to raster order after it. This
is the fairest peer to measure the fused kernels against. mamba_ssm is imported at the first call.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from lmsearch.errors import KernelError
from lmsearch.kernels import reference

# A plain install leaves out the CUDA scan; building it needs nvcc. --no-deps keeps the installed torch.
INSTALL = (
    "python -m pip install setuptools wheel packaging ninja einops transformers && "
    "MAMBA_KEEP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE python -m pip install --no-build-isolation --no-deps mamba-ssm"
)


def unavailable_reason(device: torch.device) -> str | None:
    """Return why mamba_ssm cannot run on `device`, with the command that would enable it, or None where it can."""
    found = {name: importlib.util.find_spec(name) for name in ("mamba_ssm", "selective_scan_cuda")}
    missing = [name for name, spec in found.items() if spec is None]
    if missing:
        return f"{' and '.join(missing)} not installed; run: {INSTALL}"
    served = [name for name, spec in found.items() if getattr(getattr(spec, "loader", None), "is_stand_in", False)]
    if served:
        return f"{served[0]} is lmsearch.compat's stand-in for it; lmsearch.compat.uninstall() brings the original back"
    if device.type != "cuda":
        return "mamba_ssm needs CUDA tensors; move the model with .to('cuda')"
    return None


def directional_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    order: Tensor,
    *,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    reset: Tensor | None = None,
) -> Tensor:
    """Return y (B, K, L, D) in x.dtype; arguments as in `lmsearch.kernels.directional_scan`, already checked.

    Inputs of different dtypes are promoted to one, as the public scan wants. Raises KernelError for float64 and for
    reset flags, which that scan does not have.
    """
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    if reset is not None:
        raise KernelError("backend='mamba_ssm' has no reset flags; use backend='triton' or backend='reference'")
    tokens = {"delta": delta, "B": B, "C": C} | ({} if z is None else {"z": z})
    dtype = x.dtype
    for t in tokens.values():
        dtype = torch.promote_types(dtype, t.dtype)
    if dtype == torch.float64:
        raise KernelError("backend='mamba_ssm' computes in float32; float64 tensors run with backend='reference'")
    batch, directions, length, channels = delta.shape

    def visits(t: Tensor) -> Tensor:
        t = t.unsqueeze(1) if t.dim() == 3 else t
        t = t.to(dtype).expand(-1, directions, -1, -1)
        return reference.along(t, order).transpose(2, 3).contiguous()  # (B, K, D or N, L)

    def channel(t: Tensor | None) -> Tensor | None:
        return None if t is None else t.float().reshape(directions * channels)

    y = selective_scan_fn(
        visits(x).flatten(1, 2),
        visits(delta).flatten(1, 2),
        A.float().reshape(directions * channels, -1),
        visits(B),
        visits(C),
        D=channel(D),
        z=None if z is None else visits(z).flatten(1, 2),
        delta_bias=channel(delta_bias),
        delta_softplus=delta_softplus,
    )
    y = y.view(batch, directions, channels, length).transpose(2, 3)  # (B, K, L, D), in the order of the visit
    return reference.along(y, order.argsort(dim=1)).to(x.dtype)


def directional_conv(x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor) -> Tensor:
    """Return (B, K, L, D) in x.dtype: the reference, since mamba_ssm has no convolution along an order."""
    return reference.directional_conv(x, weight, bias, order)
