"""A check of the Triton kernels against the reference, once per device, driver, dtype and version of the kernels.

It takes about a second and is remembered in a file of the cache folder, so that only the first use waits. Compilers have
been silently wrong on new devices before; a kernel that is wrong here raises and never trains anything.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmsearch.errors import FileError, KernelError
from lmsearch.files import write_json
from lmsearch.kernels import reference
from lmsearch.kernels.build import cache_dir
from lmsearch.stats.digits import beside

log = logging.getLogger(__name__)
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # largest error over largest magnitude
KERNELS = ("triton_scan.py", "triton_conv.py", "triton_merge.py", "triton_merge_ops.py", "triton_backend.py", "triton_inputs.py")
Operator = Callable[..., Tensor]
_STARTED: set[tuple[str, torch.dtype]] = set()  # in this process: passed, or running and calling the kernels itself


def identity(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Return what a passed test holds for: device, driver, versions, dtype and the source of the kernels."""
    source = hashlib.sha256(b"".join((Path(__file__).parent / name).read_bytes() for name in KERNELS)).hexdigest()
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "driver": str(torch._C._cuda_getDriverVersion()),  # type: ignore[attr-defined] # missing in its stubs
        "torch": torch.__version__,
        "triton": version("triton"),
        "dtype": str(dtype).removeprefix("torch."),
        "kernels": source,
    }


def record_of(found: dict[str, str]) -> Path:
    """Return the file that remembers a passed test."""
    name = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]
    return cache_dir() / f"self-test-{name}.json"


def ensure(device: torch.device, dtype: torch.dtype, ours: Mapping[str, Operator]) -> None:
    """Test the kernels `ours`, by name in lmsearch.kernels, unless they passed before.

    Raises KernelError, at every call, where they are wrong.
    """
    if (str(device), dtype) in _STARTED:
        return
    found = identity(device, dtype)
    record = record_of(found)
    _STARTED.add((str(device), dtype))
    if record.is_file():
        return
    try:
        with torch.inference_mode(False), torch.enable_grad():  # also where the first use is an evaluation
            errors = worst_errors(device, dtype, ours)
        check(errors, found, TOLERANCES[dtype])
    except BaseException:
        _STARTED.discard((str(device), dtype))
        raise
    log.info("the Triton kernels agree with the reference on %s in %s", found["device"], found["dtype"])
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        write_json(record, {**found, "errors": errors})
    except (OSError, FileError) as error:
        log.warning("the test of the Triton kernels passed but cannot be remembered (%s); set LMSEARCH_CACHE", error)


def check(errors: dict[str, float], found: dict[str, str], tolerance: float) -> None:
    """Raise KernelError that names the worst tensor where an error is above `tolerance`."""
    wrong = {part: error for part, error in errors.items() if error > tolerance}
    if wrong:
        part = max(wrong, key=wrong.__getitem__)
        where = f"{found['device']} (compute capability {found['capability']}, driver {found['driver']})"
        raise KernelError(
            f"the Triton kernels are wrong on {where} in {found['dtype']}, Triton {found['triton']}: {part} is off by"
            f" {beside(wrong[part], tolerance, 1, 'e')}, more than {tolerance:.0e}; use backend=reference, or another version of"
            " Triton"
        )


def worst_errors(device: torch.device, dtype: torch.dtype, ours: Mapping[str, Operator]) -> dict[str, float]:
    """Return the relative error of the output and of every gradient of each operator, against float64 on the CPU."""
    tensors, order = scan_tensors()
    ordered, eps = {"order": order}, {"eps": 1e-5}
    branches = {"o": tensors["delta"], "gate": tensors["B"][:, :, 0].mean(-1, keepdim=True).sigmoid() * tensors["D"]}
    given: dict[str, tuple[dict[str, Tensor], dict[str, Any]]] = {
        "directional_scan": ({k: t for k, t in tensors.items() if k != "weight"}, ordered | {"delta_softplus": True}),
        "directional_conv": ({"x": tensors["x"], "weight": tensors["weight"], "bias": tensors["delta_bias"]}, ordered),
        "weighted_merge": (branches | {"weights": tensors["D"][:, 0]}, eps),
        "gated_sum": (branches | {"spatial": tensors["C"][..., 0].sigmoid()}, {}),
        "normed_mean": ({"o": tensors["delta"]}, eps),
    }
    errors: dict[str, float] = {}
    for name, operator in ours.items():
        errors |= compared(name, operator, getattr(reference, name), *given[name], device, dtype)
    return errors


def scan_tensors(batch: int = 3, directions: int = 2, length: int = 67, channels: int = 40, n: int = 16) -> tuple:
    """Return random tensors of a scan by name, those of a convolution among them, and orders (K, L)."""
    g = torch.Generator().manual_seed(0)
    token, each = (batch, length, channels), (batch, directions, length)
    tensors = {
        "x": torch.randn(token, generator=g),
        "delta": torch.randn(*each, channels, generator=g) - 1,
        "A": -n * torch.rand(directions, channels, n, generator=g) - 0.05,
        "B": torch.randn(*each, n, generator=g),
        "C": torch.randn(*each, n, generator=g),
        "D": torch.randn(directions, channels, generator=g),
        "z": torch.randn(token, generator=g),
        "delta_bias": 0.3 * torch.randn(directions, channels, generator=g),
        "weight": torch.randn(directions, channels, 4, generator=g),
    }
    return tensors, torch.stack([torch.randperm(length, generator=g) for _ in range(directions)]).int()


def compared(
    title: str, ours: Operator, true: Operator, tensors: dict[str, Tensor], options: dict[str, Any],
    device: torch.device, dtype: torch.dtype,
) -> dict[str, float]:  # fmt: skip
    """Return {"normed_mean: output": error, "normed_mean: gradient of o": ...} of `ours` in `dtype` against `true` in float64."""
    streams = ("x", "delta", "B", "C", "z", "o")  # what a model has in its own dtype; the rest are float32 parameters
    given = {k: t.to(dtype if k in streams else torch.float32) for k, t in tensors.items()}
    there = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in options.items()}
    mine = {k: t.detach().to(device, copy=True).requires_grad_() for k, t in given.items()}
    exact = {k: t.detach().double().requires_grad_() for k, t in given.items()}
    got, want = ours(**mine, **there), true(**exact, **options)
    pull = torch.randn(want.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    got.backward(pull.to(got))
    want.backward(pull.to(got.dtype).double())
    pairs = {"output": (got.detach(), want.detach())}
    pairs |= {f"gradient of {k}": (gradient_of(mine[k]), gradient_of(exact[k])) for k in mine}
    return {f"{title}: {part}": relative_error(a.cpu(), b) for part, (a, b) in pairs.items()}


def gradient_of(leaf: Tensor) -> Tensor:
    """Return the gradient of a leaf; zero where nothing came back."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def relative_error(got: Tensor, want: Tensor) -> float:
    """Return the largest error over the largest magnitude of `want`; infinite where the shapes differ or NaN appears."""
    if got.shape != want.shape:
        return float("inf")
    error = (got.double() - want.double()).abs().max() / want.double().abs().max().clamp_min(1e-300)
    return error.item() if error.isfinite() else float("inf")
