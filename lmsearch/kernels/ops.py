"""The public operators, the checks of their arguments and the choice of backend.

Shapes: B batch, K directions, L tokens, D channels, N states, W taps. Tensors come and go in raster order (the
order of the image); the (K, L) table `order` says which token each direction visits at each time.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from lmsearch.errors import BackendUnavailableError, KernelError, did_you_mean
from lmsearch.kernels import mamba_ssm, native, reference, transforms, triton_backend
from lmsearch.kernels.checks import check_conv, check_scan

log = logging.getLogger(__name__)

# Every backend's module has unavailable_reason, directional_scan and directional_conv; none needs its library to be imported.
BACKENDS = {"reference": reference, "native": native, "triton": triton_backend, "mamba_ssm": mamba_ssm}
# In the order in which "auto" prefers them, per device type.
PREFERENCE = {"cpu": ("native", "reference"), "cuda": ("triton", "reference")}


class Operators(Protocol):
    """The two operators as methods: what may be given in place of a backend's name, such as by an export."""

    def directional_scan(self, *args: Any, **options: Any) -> Tensor:
        """Return the scan of arguments that have been checked."""

    def directional_conv(self, *args: Any) -> Tensor:
        """Return the convolution of arguments that have been checked."""


Backend = str | Operators


def choose_backend(backend: str, device: torch.device, dtype: torch.dtype) -> str:
    """Return the name of the backend that runs for tensors of `device` and `dtype`.

    "auto" takes the fastest available one (float64 always goes to the reference) and logs its choice once;
    any other name is taken or raises BackendUnavailableError: a forced backend never falls back.
    """
    if backend == "auto":
        return "reference" if dtype == torch.float64 else _auto(device.type)
    if backend not in BACKENDS:
        raise KernelError(f"backend={backend!r} is not a scan backend{did_you_mean(str(backend), ['auto', *BACKENDS])}")
    if (reason := BACKENDS[backend].unavailable_reason(device)) is not None:
        raise BackendUnavailableError(f"backend={backend!r} cannot run on {device.type} tensors here: {reason}")
    return backend


# torch.compile asks once, while tracing. This is what torch.compiler.assume_constant_result does; that imports torch's compiler,
# half of the time in which a process starts.
choose_backend._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache(maxsize=None)
def _auto(device_type: str) -> str:
    for name in PREFERENCE.get(device_type, ("reference",)):
        reason = BACKENDS[name].unavailable_reason(torch.device(device_type))
        if reason is None:
            log.info("scan backend for %s: %s", device_type, name)
            return name
        log.warning("scan backend %s is not available on %s (%s)", name, device_type, reason)
    raise BackendUnavailableError(f"no scan backend runs on {device_type}")


def backend_for(backend: str, x: Tensor) -> str:
    """Return the name of the backend that runs for `x`; "auto" takes the reference for derivatives that no other backend has.

    These are forward-mode ones, and those of torch.func. Raises KernelError for any other forced backend there.
    """
    name = choose_backend(backend, x.device, x.dtype)
    if name == "reference" or not (missing := transforms.missing()):
        return name
    if backend != "auto":
        raise transforms.refusal(name, missing)
    return "reference"


def operators(backend: Backend, x: Tensor) -> Any:
    """Return what holds the operators of a backend that runs for `x`."""
    return BACKENDS[backend_for(backend, x)] if isinstance(backend, str) else backend


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
    delta_weight: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Run the selective scan (Mamba-1, arXiv 2312.00752 eq. 2) along K orders at once; all tensors in raster order.

    x (B, L, D), shared by the directions, or (B, K, L, D); delta (B, K, L, D); A (K, D, N) real; B and C (B, K, L, N);
    D (K, D) or None; order (K, L) integer, each row a permutation of range(L); z (B, L, D) gate or None;
    delta_bias (K, D) or None, added before the softplus; reset (K, L) bool or None, in raster order: the state is
    zeroed before the tokens where it is True. With `delta_weight` (K, D, R) delta is (B, K, L, R), and each token's is
    multiplied with it first. The state is kept in at least float32.
    Returns (B, K, L, D) in x.dtype, D skip and silu(z) gate applied. Raises KernelError for arguments that do not fit
    and BackendUnavailableError for a forced backend that cannot run. Only the reference has second derivatives, those of
    forward mode and those of torch.func (grad, vjp, jacrev); for the latter two "auto" takes it, and other backends raise
    KernelError.
    """
    check_scan(x, delta, A, B, C, D, order, z=z, delta_bias=delta_bias, reset=reset, delta_weight=delta_weight)
    module, low_rank = operators(backend, x), {}
    if delta_weight is not None and module is native:  # the others take it whole
        low_rank = {"delta_weight": delta_weight}
    elif delta_weight is not None:
        delta = reference.whole_delta(delta, delta_weight)
    return module.directional_scan(
        x, delta, A, B, C, D, order, z=z, delta_bias=delta_bias, delta_softplus=delta_softplus, reset=reset, **low_rank
    )


def directional_conv(x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor, *, backend: Backend = "auto") -> Tensor:
    """silu of LocalVim's causal depthwise convolution along K orders: what each direction's scan takes as its input.

    x (B, L, D); weight (K, D, W), the last tap meets the current token; bias (K, D) or None; order (K, L).
    Returns (B, K, L, D) in raster order and x.dtype.
    """
    check_conv(x, weight, bias, order)
    y: Tensor = operators(backend, x).directional_conv(x, weight, bias, order)
    return y
