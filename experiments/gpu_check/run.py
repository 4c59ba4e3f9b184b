"""Check and time the Triton kernels on one NVIDIA GPU: `python experiments/gpu_check/run.py --out results.json`.

Correctness first; nothing is timed unless every check passed. `--interpret` runs the checks alone on tiny CPU shapes
through Triton's interpreter. Shapes: B batch, K directions, L = side * side tokens, D channels, N states.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

if "--interpret" in sys.argv:  # must be set before triton is imported
    os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor

from lmsearch import kernels
from lmsearch.kernels import mamba_ssm, triton_backend
from lmsearch.kernels.triton_scan import ScanConfig
from lmsearch.scan.directions import index_table

DIRECTIONS = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2}  # relative error against float64
CHECKED = ((3, 8, 14, 384, 16), (3, 4, 13, 100, 16), (5, 8, 7, 64, 5), (3, 2, 56, 96, 1))  # B, K, side, D, N
EPS = {"weighted_merge": {"eps": 1e-5}, "normed_mean": {"eps": 1e-5}}
INTERPRETED = ((3, 2, 3, 5, 4), (3, 1, 2, 8, 5))
TIMED = ((128, 8, 14, 384, 16), (64, 8, 56, 96, 16))
CONFIGS = (
    [
        ScanConfig(chunk, 64, 2, block, warps)
        for chunk in (4, 8)
        for block, warps in ((16, 1), (32, 1), (32, 2), (32, 4), (64, 4), (128, 4))
    ]
    + [ScanConfig(8, block, warps, 64, 4) for block, warps in ((32, 1), (32, 2), (64, 2), (128, 4), (128, 8))]
    + [ScanConfig(chunk, save_states=True) for chunk in (4, 8)]
)
FORWARD_OPS, BACKWARD_OPS = 7, 18  # float32 instructions per element that the recurrence cannot do without
EXP_PER_SM, FP32_PER_SM = 16, 128  # per clock of a multiprocessor; FP32 is half of it on 8.0


def order_table(k: int, side: int, device: str) -> Tensor:
    """Return the (K, L) table of the first k directions on a square grid."""
    return torch.from_numpy(index_table(DIRECTIONS[:k], (side, side)).copy()).to(device)


def inputs(shape: tuple[int, ...], dtype: torch.dtype, device: str, *, seed: int = 0) -> tuple[dict, Tensor]:
    """Return fresh random arguments of directional_scan without order, and the order."""
    b, k, side, d, n = shape
    length = side * side
    g = torch.Generator(device).manual_seed(seed)

    def draw(*size: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.randn(*size, generator=g, device=device).to(kind)

    args = {
        "x": draw(b, length, d),
        "delta": draw(b, k, length, d) - 4,
        "A": -torch.rand(k, d, n, generator=g, device=device) * n,
        "B": draw(b, k, length, n),
        "C": draw(b, k, length, n),
        "D": draw(k, d, kind=torch.float32),
        "z": draw(b, length, d),
        "delta_bias": draw(k, d, kind=torch.float32),
    }
    return args, order_table(k, side, device)


def scan(function: Callable[..., Tensor], args: dict, order: Tensor, **options) -> Tensor:
    """Call a directional_scan with softplus."""
    a = dict(args)
    main = [a.pop(name) for name in ("x", "delta", "A", "B", "C", "D")]
    return function(*main, order, **a, delta_softplus=True, **options)


def gradients(function: Callable[..., Tensor], args: dict, order: Tensor, dy: Tensor, **options) -> dict[str, Tensor]:
    """Return y and the gradient of every argument."""
    leaf = {k: None if t is None else t.detach().requires_grad_() for k, t in args.items()}
    y = scan(function, leaf, order, **options)
    y.backward(dy.to(y.dtype))
    return {"y": y.detach(), **{k: t.grad for k, t in leaf.items() if t is not None}}


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Return |got - expected| / |expected|; NaN where anything is not finite."""
    return float((got.double() - expected).norm() / expected.norm().clamp_min(1e-30))


def check_scan(shape: tuple[int, ...], name: str, device: str, *, reset: bool, strided: bool) -> dict:
    """Compare forward and every gradient with the float64 reference; return the largest relative error and its tensor."""
    args, order = inputs(shape, DTYPES[name], device)
    if strided:  # channel-first in memory, every second channel, expanded over the directions
        args["x"] = args["x"].transpose(1, 2).contiguous().transpose(1, 2)
        args["delta"] = args["delta"].repeat_interleave(2, dim=-1)[..., ::2]
        args["B"] = args["B"][:, :1].expand_as(args["B"])
    flags = {"reset": torch.rand(order.shape, device=device) < 0.1} if reset else {}
    dy = torch.randn(*args["delta"].shape[::-1], device=device).permute(3, 2, 1, 0)
    dy = dy.to(DTYPES[name])
    poison = torch.full((4 * args["delta"].numel(),), float("nan"), device=device)
    del poison  # its memory is what the kernels get next: an element that nobody writes shows as NaN
    got = gradients(triton_backend.directional_scan, args, order, dy, **flags)
    wide = {k: t.double() for k, t in args.items()}
    expected = gradients(kernels.directional_scan, wide, order, dy, backend="reference", **flags)
    errors = {k: relative_error(got[k], expected[k]) for k in expected}
    worst = max(errors, key=lambda k: errors[k] if errors[k] == errors[k] else float("inf"))
    passed = errors[worst] < TOLERANCE[name]  # False for NaN
    return {
        "op": "scan",
        "shape": shape,
        "dtype": name,
        "reset": reset,
        "strided": strided,
        "worst": worst,
        "error": errors[worst],
        "passed": passed,
    }


def check_conv(shape: tuple[int, ...], name: str, device: str) -> dict:
    """Compare the convolution and its gradients with the float64 reference."""
    b, k, side, d, _ = shape
    x = torch.randn(b, d, side * side, device=device).transpose(1, 2).to(DTYPES[name])
    weight, bias, order = torch.randn(k, d, 4, device=device), torch.randn(k, d, device=device), order_table(k, side, device)
    results = []
    for function, kind in ((triton_backend.directional_conv, None), (kernels.directional_conv, torch.float64)):
        leaf = [t.detach().to(kind or t.dtype).requires_grad_() for t in (x, weight, bias)]
        y = function(*leaf, order, **({"backend": "reference"} if kind else {}))
        y.backward(torch.linspace(-1, 1, y.numel(), device=device).view(y.shape).to(x.dtype).to(y.dtype))
        results.append([y.detach(), *(t.grad for t in leaf)])
    error = max(relative_error(a, b) for a, b in zip(*results, strict=True))
    return {"op": "conv", "shape": shape, "dtype": name, "error": error, "passed": error < TOLERANCE[name]}


def merge_inputs(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> dict[str, tuple[Tensor, ...]]:
    """Return random arguments of what follows the scans, by operator; branches lie in memory token by token."""
    b, k, side, d, _ = shape
    o = torch.randn(b, side * side, k, d, device=device).transpose(1, 2).to(dtype)
    gate, spatial, weights = (torch.rand(*size, device=device) for size in ((b, k, d), (b, k, side * side), (k,)))
    return {"weighted_merge": (o, gate, weights), "gated_sum": (o, gate, spatial), "normed_mean": (o,)}


def check_merge(shape: tuple[int, ...], dtype: str, device: str) -> list[dict]:
    """Compare the merges and the mean, and their gradients, with the float64 reference."""
    rows = []
    for op, given in merge_inputs(shape, DTYPES[dtype], device).items():
        results = []
        for backend, kind in (("triton", None), ("reference", torch.float64)):
            leaf = [t.detach().to(kind or t.dtype).requires_grad_() for t in given]
            y = getattr(kernels, op)(*leaf, **EPS.get(op, {}), backend=backend)
            y.backward(torch.linspace(-1, 1, y.numel(), device=device).view(y.shape).to(given[0].dtype).to(y.dtype))
            results.append([y.detach(), *(t.grad for t in leaf)])
        error = max(relative_error(a, b) for a, b in zip(*results, strict=True))
        rows.append({"op": op, "shape": shape, "dtype": dtype, "error": error, "passed": error < TOLERANCE[dtype]})
    return rows


def merge_step(op: str, leaf: list[Tensor], backend: str) -> None:
    """Run forward and backward of a merge or the mean."""
    torch.autograd.grad(getattr(kernels, op)(*leaf, **EPS.get(op, {}), backend=backend).sum(), leaf)


def merge_timings() -> list[dict]:
    """Time forward + backward of the merges and of the mean on the kernels and in plain PyTorch."""
    rows = []
    for shape, (name, dtype) in product(TIMED, DTYPES.items()):
        for op, given in merge_inputs(shape, dtype, "cuda").items():
            leaf = [t.detach().requires_grad_() for t in given]
            times = {backend: milliseconds(partial(merge_step, op, leaf, backend)) for backend in ("triton", "reference")}
            rows.append({"op": op, "shape": shape, "dtype": name, **times, "ratio": times["reference"] / times["triton"]})
            print(f"{op} {shape} {name}: {times['triton']:.3f} ms, PyTorch/triton {rows[-1]['ratio']:.2f}", flush=True)
    return rows


def checks(device: str, shapes: tuple[tuple[int, ...], ...]) -> list[dict]:
    """Run every check and print one line each."""
    rows = []
    for shape in shapes:
        for name in DTYPES:
            rows += [check_scan(shape, name, device, reset=r, strided=s) for r, s in ((False, False), (True, True))]
            rows += [check_conv(shape, name, device), *check_merge(shape, name, device)]
    for r in rows:
        print(f"{'ok  ' if r['passed'] else 'FAIL'} {r['op']} {r['shape']} {r['dtype']} {r.get('worst', '')} {r['error']:.1e}")
    return rows


def milliseconds(work: Callable[[], object], *, repeats: int = 20) -> float:
    """Return the median time of `work` between CUDA events, after a warm-up."""
    for _ in range(3):
        work()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def copy_bandwidth() -> float:
    """Return bytes per second, read plus written, of a large device-to-device copy."""
    a = torch.randn(2**28, device="cuda")
    b = torch.empty_like(a)
    return 2 * a.numel() * 4 / (milliseconds(lambda: b.copy_(a)) / 1e3)


def floors(shape: tuple[int, ...], size: int, bandwidth: float) -> dict[str, float]:
    """Return the least milliseconds of forward and backward: bytes, exponentials or float32 issue, the largest.

    Each input is read once, each output written once; saved states are left out: the bound is of the problem.
    """
    b, k, side, d, n = shape
    tokens = b * k * side * side
    small, wide, shared = 2 * tokens * n * size, tokens * d * size, tokens // k * d * size  # B and C; delta, y; x, z
    props = torch.cuda.get_device_properties(0)
    clock = props.clock_rate * 1e3
    issue = props.multi_processor_count * clock * (FP32_PER_SM // 2 if (props.major, props.minor) == (8, 0) else FP32_PER_SM)
    exp = tokens * d * n / (props.multi_processor_count * EXP_PER_SM * clock)
    forward = max((2 * shared + small + 2 * wide) / bandwidth, exp, tokens * d * n * FORWARD_OPS / issue)
    backward = max((4 * shared + 2 * small + 3 * wide) / bandwidth, exp, tokens * d * n * BACKWARD_OPS / issue)
    return {"forward": forward * 1e3, "backward": backward * 1e3}


def measure(function: Callable[..., Tensor], args: dict, order: Tensor, **options) -> dict[str, float]:
    """Return times in ms and memory in MB of one scan: forward without grad, forward + backward, saved, peak."""
    leaf = {k: t.detach().requires_grad_() for k, t in args.items()}
    dy = torch.randn(args["delta"].shape, device="cuda").to(args["x"].dtype)

    def both() -> None:
        scan(function, leaf, order, **options).backward(dy)
        for t in leaf.values():
            t.grad = None

    with torch.no_grad():
        forward = milliseconds(lambda: scan(function, args, order, **options))
    total = milliseconds(both)
    before = torch.cuda.memory_allocated()
    y = scan(function, leaf, order, **options)
    saved = torch.cuda.memory_allocated() - before - y.numel() * y.element_size()
    del y
    torch.cuda.reset_peak_memory_stats()
    both()
    peak = torch.cuda.max_memory_allocated() - before
    return {"forward_ms": forward, "total_ms": total, "saved_MB": saved / 1e6, "peak_MB": peak / 1e6}


def timings(bandwidth: float) -> list[dict]:
    """Time the Triton scan, and the grouped mamba-ssm call with its gathers where it is installed."""
    rows = []
    absent = mamba_ssm.unavailable_reason(torch.device("cuda"))
    if absent:
        print(f"mamba_ssm: absent ({absent})")
    for shape in TIMED:
        for name, dtype in DTYPES.items():
            args, order = inputs(shape, dtype, "cuda")
            least = floors(shape, dtype.itemsize, bandwidth)
            times = measure(triton_backend.directional_scan, args, order)
            row = {"shape": shape, "dtype": name, "floor_ms": least, "triton": times}
            row["roofline_forward"] = least["forward"] / times["forward_ms"]
            row["roofline_total"] = (least["forward"] + least["backward"]) / times["total_ms"]
            if not absent:
                row["mamba_ssm"] = measure(mamba_ssm.directional_scan, args, order)
                row["ratio_forward"] = row["mamba_ssm"]["forward_ms"] / times["forward_ms"]
                row["ratio_total"] = row["mamba_ssm"]["total_ms"] / times["total_ms"]
            rows.append(row)
    return rows


def sweep() -> list[dict]:
    """Time every configuration at the first timed shape in bfloat16."""
    args, order = inputs(TIMED[0], torch.bfloat16, "cuda")
    rows = []
    for config in CONFIGS:
        times = measure(triton_backend.directional_scan, args, order, config=config)
        rows.append({"config": config.as_list(), **times})
        print(f"{config}: forward {times['forward_ms']:.3f} ms, forward + backward {times['total_ms']:.3f} ms", flush=True)
    return rows


def environment(device: str) -> dict[str, object]:
    """Return hardware and versions."""
    found = {name: importlib.metadata.version(name) for name in ("torch", "triton")}
    gpu = torch.cuda.get_device_name(0) if device == "cuda" else None
    return {**found, "python": platform.python_version(), "gpu": gpu, "cuda": torch.version.cuda}


def main() -> int:
    """Check, then time; write JSON; return 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interpret", action="store_true", help="only the checks, tiny shapes, CPU interpreter")
    parser.add_argument("--sweep", action="store_true", help="also time every block size and number of warps")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"), help="where to write the JSON")
    options = parser.parse_args()
    device = "cpu" if options.interpret else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device; --interpret runs the checks on the CPU", file=sys.stderr)
        return 2
    result = {"environment": environment(device), "checks": checks(device, INTERPRETED if options.interpret else CHECKED)}
    passed = all(r["passed"] for r in result["checks"])
    if passed and device == "cuda":
        result["copy_bytes_per_s"] = copy_bandwidth()
        result["timings"] = timings(result["copy_bytes_per_s"])
        result["merge"] = merge_timings()
        result["sweep"] = sweep() if options.sweep else []
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["environment"]))
    for r in result.get("timings", []):
        t = r["triton"]
        print(
            f"{r['shape']} {r['dtype']}: forward {t['forward_ms']:.3f} ms ({r['roofline_forward']:.0%} of roofline), "
            f"total {t['total_ms']:.3f} ms ({r['roofline_total']:.0%}), saved {t['saved_MB']:.0f} MB, "
            f"peak {t['peak_MB']:.0f} MB, mamba_ssm/triton {r.get('ratio_total', 'absent')}"
        )
    print("all checks passed" if passed else "A CHECK FAILED: nothing was timed")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
