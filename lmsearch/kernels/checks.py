"""Argument checks of the scan operators: shapes, dtypes, devices and orders, each wrong one named in one clear line."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from lmsearch.errors import KernelError

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_known_orders = WeakIdKeyDictionary()  # order tensor -> its version when it was last found to be permutations


def check_shape(name: str, t: Tensor, shape: tuple[int, ...], legend: str) -> None:
    """Raise KernelError unless t has exactly `shape`, described by `legend` such as "(B, K, L, D)"."""
    if tuple(t.shape) != tuple(shape):
        raise KernelError(f"{name} has shape {tuple(t.shape)}; expected {legend} = {tuple(shape)}")


def check_floats(device: torch.device, tensors: dict[str, Tensor | None]) -> None:
    """Raise KernelError unless every tensor is floating point and on `device`."""
    for name, t in tensors.items():
        if t is None:
            continue
        if t.dtype not in FLOATS:
            raise KernelError(f"{name} has dtype {t.dtype}; expected one of {', '.join(str(f) for f in FLOATS)}")
        if t.device != device:
            raise KernelError(f"{name} is on {t.device} but x is on {device}; all tensors must share one device")


def check_order(order: Tensor, length: int, device: torch.device) -> None:
    """Raise KernelError unless order is (K, L) integers on `device`, each row a permutation of range(L).

    The permutation check runs once per tensor (and again after an in-place change): on CUDA it waits for the device.
    """
    if order.dim() != 2 or order.shape[1] != length:
        raise KernelError(f"order has shape {tuple(order.shape)}; expected (K, L) with L = {length}")
    if order.dtype not in (torch.int32, torch.int64):
        raise KernelError(f"order has dtype {order.dtype}; expected torch.int32 or torch.int64")
    if order.device != device:
        raise KernelError(f"order is on {order.device} but x is on {device}; all tensors must share one device")
    if torch.compiler.is_compiling() or order.is_meta or isinstance(order, torch._subclasses.FakeTensor):
        return  # no values to look at while tracing
    if _known_orders.get(order) == order._version:
        return
    expected = torch.arange(length, device=device, dtype=order.dtype)
    bad = (order.sort(dim=1).values != expected).any(dim=1)
    if bad.any():
        raise KernelError(f"order[{int(bad.nonzero()[0])}] is not a permutation of range({length})")
    _known_orders[order] = order._version


def check_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    order: Tensor,
    *,
    z: Tensor | None,
    delta_bias: Tensor | None,
    reset: Tensor | None,
    delta_weight: Tensor | None = None,
) -> None:
    """Raise KernelError unless the arguments of `directional_scan` fit together."""
    if delta.dim() != 4:
        raise KernelError(f"delta has shape {tuple(delta.shape)}; expected (B, K, L, D)")
    if A.dim() != 3:
        raise KernelError(f"A has shape {tuple(A.shape)}; expected (K, D, N)")
    b, k, length, d = delta.shape
    n = A.shape[-1]
    if delta_weight is not None:
        rank, d = d, A.shape[1]
        check_shape("delta_weight", delta_weight, (k, d, rank), "(K, D, R)")
        if rank == 0:
            raise KernelError(f"delta has shape {tuple(delta.shape)}; with delta_weight expected (B, K, L, R), R at least 1")
    if 0 in (k, length, d, n):
        raise KernelError(f"K = {k}, D = {d}, N = {n}, L = {length}; K, L, D and N must be at least 1")
    if x.dim() == 4:
        check_shape("x", x, (b, k, length, d), "(B, K, L, D)")
    else:
        check_shape("x", x, (b, length, d), "(B, L, D)")
    check_shape("A", A, (k, d, n), "(K, D, N)")
    for name, t in (("B", B), ("C", C)):
        check_shape(name, t, (b, k, length, n), "(B, K, L, N)")
    for name, own in (("D", D), ("delta_bias", delta_bias)):
        if own is not None:
            check_shape(name, own, (k, d), "(K, D)")
    if z is not None:
        check_shape("z", z, (b, length, d), "(B, L, D)")
    floats = {"x": x, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z}
    check_floats(x.device, floats | {"delta_bias": delta_bias, "delta_weight": delta_weight})
    check_order(order, length, x.device)
    check_shape("order", order, (k, length), "(K, L)")
    if reset is not None:
        check_shape("reset", reset, (k, length), "(K, L)")
        if reset.dtype != torch.bool or reset.device != x.device:
            raise KernelError(f"reset is {reset.dtype} on {reset.device}; expected torch.bool on {x.device}")


def check_conv(x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor) -> None:
    """Raise KernelError unless the arguments of `directional_conv` fit together."""
    if x.dim() != 3 or weight.dim() != 3:
        raise KernelError(f"x has shape {tuple(x.shape)} and weight {tuple(weight.shape)}; expected (B, L, D) and (K, D, W)")
    if order.dim() != 2:
        raise KernelError(f"order has shape {tuple(order.shape)}; expected (K, L) with L = {x.shape[1]}")
    if 0 in (*x.shape[1:], *weight.shape):
        raise KernelError(f"L = {x.shape[1]}, K = {weight.shape[0]}, D = {weight.shape[1]}, W = {weight.shape[2]}; none may be 0")
    check_shape("weight", weight, (order.shape[0], x.shape[-1], weight.shape[-1]), "(K, D, W)")
    if bias is not None:
        check_shape("bias", bias, tuple(weight.shape[:2]), "(K, D)")
    check_floats(x.device, {"x": x, "weight": weight, "bias": bias})
    check_order(order, x.shape[1], x.device)


def check_merge(o: Tensor, gate: Tensor | None = None, weights: Tensor | None = None, *, spatial: Tensor | None = None) -> None:
    """Raise KernelError unless the arguments of `weighted_merge`, `gated_sum` or `normed_mean` fit together."""
    if o.dim() != 4:
        raise KernelError(f"o has shape {tuple(o.shape)}; expected (B, K, L, D)")
    b, k, length, d = o.shape
    if 0 in (k, length, d):
        raise KernelError(f"K = {k}, L = {length}, D = {d}; K, L and D must be at least 1")
    if gate is not None:
        check_shape("gate", gate, (b, k, d), "(B, K, D)")
    if spatial is not None:
        check_shape("spatial", spatial, (b, k, length), "(B, K, L)")
    if weights is not None:
        check_shape("weights", weights, (k,), "(K,)")
    check_floats(o.device, {"o": o, "gate": gate, "spatial": spatial, "weights": weights})
