"""The gate before every timing: an implementation whose results are wrong is never timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lmsearch.bench.scans import PEERS, ScanShape, ours, peer_tensors, scan_tensors
from lmsearch.errors import KernelError
from lmsearch.kernels import BACKENDS
from lmsearch.kernels.self_test import relative_error
from lmsearch.stats.digits import beside

TOLERANCE = 1e-5  # largest error over the largest magnitude of the float64 reference, per tensor


@dataclass(frozen=True)
class Worst:
    """The largest relative error of an implementation, and the tensor that has it."""

    error: float
    part: str


def results(function: Callable[[], Tensor], leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the output of `function` and the gradient of every leaf for a fixed random weighting of it."""
    y = function()
    weights = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(y)
    gradients = torch.autograd.grad(y, list(leaves.values()), weights, materialize_grads=True)  # a missing one is 0
    return {"output": y.detach(), **{f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}}


def worst(name: str, got: Mapping[str, Tensor], want: Mapping[str, Tensor], *, tolerance: float = TOLERANCE) -> Worst:
    """Return the largest relative error; raise KernelError where it is above `tolerance`."""
    errors = {part: relative_error(got[part], want[part]) for part in want}
    part = max(errors, key=lambda part: errors[part])
    if not errors[part] <= tolerance:
        raise KernelError(
            f"{name} is wrong: {part} is off by {beside(errors[part], tolerance, 1, 'e')} relative to the float64 reference, "
            f"more than {tolerance:.0e}; nothing was timed"
        )
    return Worst(errors[part], part)


def as_float64(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as float64 leaves."""
    return {name: t.detach().double().requires_grad_() for name, t in tensors.items()}


def check_backends(shapes: Sequence[ScanShape], *, seed: int, device: str) -> tuple[dict[str, Worst], dict[str, str]]:
    """Compare every backend that runs on `device` with the float64 reference on `shapes`, forward and gradients.

    Returns (worst error per backend, reason per backend that cannot run); raises KernelError for a wrong one.
    """
    reasons = {name: module.unavailable_reason(torch.device(device)) for name, module in BACKENDS.items()}
    runnable = [name for name, reason in reasons.items() if reason is None]
    errors: dict[str, Worst] = {}
    for shape in shapes:
        tensors, order = scan_tensors(shape, seed=seed, device=device)
        exact = as_float64(tensors)
        want = results(ours(exact, order, "reference"), exact)
        for name in runnable:
            got = results(ours(tensors, order, name), tensors)
            found = worst(f"backend {name} at {shape}", got, want)
            errors[name] = max(errors.get(name, found), found, key=lambda w: w.error)
    return errors, {name: reason for name, reason in reasons.items() if reason is not None}


def check_peers(shape: ScanShape, *, seed: int, device: str, quick: bool = False) -> tuple[dict[str, Worst], dict[str, str]]:
    """Compare every peer that runs on `device` with the float64 reference, as `check_backends` does; one direction."""
    reasons = {name: peer.absent(device, quick=quick) for name, peer in PEERS.items()}
    tensors, order = scan_tensors(shape, seed=seed, device=device)
    mine = peer_tensors(tensors, order)
    exact = as_float64(mine)
    batched = {name: t.unsqueeze(0 if name in "AD" else 1) for name, t in exact.items() if name != "x"} | {"x": exact["x"]}
    identity = torch.arange(shape.tokens, dtype=torch.int32, device=device).unsqueeze(0)
    want = results(lambda: ours(batched, identity, "reference")()[:, 0], exact)
    errors = {}
    for name, peer in PEERS.items():
        if reasons[name] is None:
            call = partial(peer.scan, **mine)
            got = results(call, mine) if peer.gradients else {"output": call()}
            errors[name] = worst(f"{name} at {shape}", got, {part: want[part] for part in got})
    return errors, {name: reason for name, reason in reasons.items() if reason is not None}
