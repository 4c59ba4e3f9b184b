"""The merges of branches and the mean of normalised tokens as Triton kernels, and the functions that launch them.

Shapes: B batch, K directions, L tokens, D channels. A program holds whole rows of D channels. The forward of a merge gives a
program some tokens of all directions; the others go over a chunk of the tokens of one direction, and sums over chunks follow
outside. Sums are float32. Strides are passed for o and dy; everything else is contiguous.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lmsearch.kernels.launch import launch_options

CHUNK = 32  # tokens of a program that sums over tokens
TILE = 2048  # elements of rows that a program holds at once, about
NUM_WARPS = 4


@triton.jit
def rows_of(row, t, token_stride, length, in_d):
    """Load the rows of tokens t, zero outside: (T, block) in float32."""
    mask = (t < length)[:, None] & in_d[None, :]
    return tl.load(row[None, :] + (t.to(tl.int64) * token_stride)[:, None], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def keep_rows(row, place, rows, channels, live, in_d):
    """Store rows (T, block) at these places of contiguous rows of D channels, where tokens are live (T,)."""
    at = row[None, :] + place[:, None] * channels
    tl.store(at, rows.to(row.dtype.element_ty), mask=live[:, None] & in_d[None, :])


@triton.jit
def keep_moments(ptr, place, mean, inverse, live):
    """Store the moments of rows (T,) at these places of contiguous pairs, where tokens are live (T,)."""
    tl.store(ptr + place * 2, mean, mask=live)
    tl.store(ptr + place * 2 + 1, inverse, mask=live)


@triton.jit
def moments_of(rows, channels, eps, in_d):
    """Return mean and inverse deviation of rows (T, block): (T,) each."""
    mean = tl.sum(rows, axis=1) / channels
    apart = tl.where(in_d[None, :], rows - mean[:, None], 0.0)
    return mean, 1.0 / tl.sqrt(tl.sum(apart * apart, axis=1) / channels + eps)


@triton.jit(do_not_specialize=["directions", "length"])
def merge_forward(
    o_ptr,
    gate_ptr,
    weight_ptr,
    y_ptr,
    moments_ptr,
    directions,
    length,
    channels,
    eps,
    o_b,
    o_k,
    o_l,
    o_d,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write y (B, L, D) and mean and inverse deviation of every gated row (B, K, L, 2)."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(length, BLOCK_T)
    batch = (pid // blocks).to(tl.int64)
    t = pid % blocks * BLOCK_T + tl.arange(0, BLOCK_T)
    d = tl.arange(0, BLOCK_D).to(tl.int64)
    in_d = d < channels
    row = o_ptr + batch * o_b + d * o_d
    y = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)
    for k in range(directions):
        scan = batch * directions + k
        rows = rows_of(row, t, o_l, length, in_d)
        row += o_k
        if gate_ptr is not None:
            rows *= tl.load(gate_ptr + scan * channels + d, mask=in_d, other=0.0)[None, :]
        mean, inverse = moments_of(rows, channels, eps, in_d)
        y += tl.load(weight_ptr + k) * (rows - mean[:, None]) * inverse[:, None]
        keep_moments(moments_ptr, scan * length + t, mean, inverse, t < length)
    keep_rows(y_ptr + d, batch * length + t, y, channels, t < length, in_d)


@triton.jit(do_not_specialize=["directions", "length"])
def mean_forward(
    o_ptr,
    sum_ptr,
    moments_ptr,
    directions,
    length,
    channels,
    eps,
    o_b,
    o_k,
    o_l,
    o_d,
    CHUNK: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write the sum of normalised rows of every chunk (B, K, chunks, D) and the moments of every row (B, K, L, 2)."""
    pid = tl.program_id(0)
    chunks = tl.cdiv(length, CHUNK)
    scan = (pid // chunks).to(tl.int64)  # batch * K + k
    d = tl.arange(0, BLOCK_D).to(tl.int64)
    in_d = d < channels
    row = o_ptr + scan // directions * o_b + scan % directions * o_k + d * o_d
    total = tl.zeros([BLOCK_D], tl.float32)
    for block in range(CHUNK // BLOCK_T):
        t = pid % chunks * CHUNK + block * BLOCK_T + tl.arange(0, BLOCK_T)
        rows = rows_of(row, t, o_l, length, in_d)
        mean, inverse = moments_of(rows, channels, eps, in_d)
        total += tl.sum((rows - mean[:, None]) * inverse[:, None], axis=0)
        keep_moments(moments_ptr, scan * length + t, mean, inverse, t < length)
    tl.store(sum_ptr + pid.to(tl.int64) * channels + d, total, mask=in_d)


@triton.jit(do_not_specialize=["directions", "length"])
def merge_backward(
    o_ptr,
    gate_ptr,
    weight_ptr,
    moments_ptr,
    dy_ptr,
    do_ptr,
    dgate_ptr,
    dw_ptr,
    directions,
    length,
    channels,
    o_b,
    o_k,
    o_l,
    o_d,
    dy_b,
    dy_k,
    dy_l,
    dy_d,
    CHUNK: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write do (B, K, L, D), and of every chunk dgate (B, K, chunks, D) and dweight (B, K, chunks).

    Without weights every row counts 1 / L, as in the mean over the tokens.
    """
    pid = tl.program_id(0)
    chunks = tl.cdiv(length, CHUNK)
    scan = (pid // chunks).to(tl.int64)  # batch * K + k
    batch = scan // directions
    k = scan % directions
    d = tl.arange(0, BLOCK_D).to(tl.int64)
    in_d = d < channels
    o_row = o_ptr + batch * o_b + k * o_k + d * o_d
    dy_row = dy_ptr + batch * dy_b + k * dy_k + d * dy_d
    weight = 1.0 / length
    if weight_ptr is not None:
        weight = tl.load(weight_ptr + k)
    gate = tl.full([BLOCK_D], 1.0, tl.float32)
    if gate_ptr is not None:
        gate = tl.load(gate_ptr + scan * channels + d, mask=in_d, other=0.0)
    dgate = tl.zeros([BLOCK_D], tl.float32)
    dweight = tl.zeros([BLOCK_T], tl.float32)
    for block in range(CHUNK // BLOCK_T):
        t = pid % chunks * CHUNK + block * BLOCK_T + tl.arange(0, BLOCK_T)
        o = rows_of(o_row, t, o_l, length, in_d)
        dy = rows_of(dy_row, t, dy_l, length, in_d)
        kept = moments_ptr + (scan * length + t) * 2
        mean = tl.load(kept, mask=t < length, other=0.0)
        inverse = tl.load(kept + 1, mask=t < length, other=0.0)
        normed = tl.where(in_d[None, :], (o * gate[None, :] - mean[:, None]) * inverse[:, None], 0.0)
        along = tl.sum(dy * normed, axis=1)
        level = tl.sum(dy, axis=1) / channels
        apart = (dy - level[:, None] - normed * (along / channels)[:, None]) * (weight * inverse)[:, None]
        dweight += along
        dgate += tl.sum(apart * o, axis=0)
        keep_rows(do_ptr + d, scan * length + t, apart * gate[None, :], channels, t < length, in_d)
    if dgate_ptr is not None:
        tl.store(dgate_ptr + pid.to(tl.int64) * channels + d, dgate, mask=in_d)
    if dw_ptr is not None:
        tl.store(dw_ptr + pid, tl.sum(dweight, axis=0))


@triton.jit(do_not_specialize=["directions", "length"])
def sum_forward(
    o_ptr,
    gate_ptr,
    spatial_ptr,
    y_ptr,
    directions,
    length,
    channels,
    o_b,
    o_k,
    o_l,
    o_d,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write the sum of the gated branches (B, L, D)."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(length, BLOCK_T)
    batch = (pid // blocks).to(tl.int64)
    t = pid % blocks * BLOCK_T + tl.arange(0, BLOCK_T)
    d = tl.arange(0, BLOCK_D).to(tl.int64)
    in_d = d < channels
    row = o_ptr + batch * o_b + d * o_d
    y = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)
    for k in range(directions):
        scan = batch * directions + k
        rows = rows_of(row, t, o_l, length, in_d)
        row += o_k
        if gate_ptr is not None:
            rows *= tl.load(gate_ptr + scan * channels + d, mask=in_d, other=0.0)[None, :]
        if spatial_ptr is not None:
            rows *= tl.load(spatial_ptr + scan * length + t, mask=t < length, other=0.0)[:, None]
        y += rows
    keep_rows(y_ptr + d, batch * length + t, y, channels, t < length, in_d)


@triton.jit(do_not_specialize=["directions", "length"])
def sum_backward(
    o_ptr,
    gate_ptr,
    spatial_ptr,
    dy_ptr,
    do_ptr,
    dgate_ptr,
    dspatial_ptr,
    directions,
    length,
    channels,
    o_b,
    o_k,
    o_l,
    o_d,
    dy_b,
    dy_l,
    dy_d,
    CHUNK: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write do (B, K, L, D), dspatial (B, K, L), and of every chunk dgate (B, K, chunks, D)."""
    pid = tl.program_id(0)
    chunks = tl.cdiv(length, CHUNK)
    scan = (pid // chunks).to(tl.int64)  # batch * K + k
    batch = scan // directions
    d = tl.arange(0, BLOCK_D).to(tl.int64)
    in_d = d < channels
    o_row = o_ptr + batch * o_b + scan % directions * o_k + d * o_d
    dy_row = dy_ptr + batch * dy_b + d * dy_d
    gate = tl.full([BLOCK_D], 1.0, tl.float32)
    if gate_ptr is not None:
        gate = tl.load(gate_ptr + scan * channels + d, mask=in_d, other=0.0)
    dgate = tl.zeros([BLOCK_D], tl.float32)
    for block in range(CHUNK // BLOCK_T):
        t = pid % chunks * CHUNK + block * BLOCK_T + tl.arange(0, BLOCK_T)
        o = rows_of(o_row, t, o_l, length, in_d)
        dy = rows_of(dy_row, t, dy_l, length, in_d)
        through = dy
        if spatial_ptr is not None:
            through = dy * tl.load(spatial_ptr + scan * length + t, mask=t < length, other=0.0)[:, None]
            tl.store(dspatial_ptr + scan * length + t, tl.sum(dy * gate[None, :] * o, axis=1), mask=t < length)
        dgate += tl.sum(through * o, axis=0)
        keep_rows(do_ptr + d, scan * length + t, through * gate[None, :], channels, t < length, in_d)
    if dgate_ptr is not None:
        tl.store(dgate_ptr + pid.to(tl.int64) * channels + d, dgate, mask=in_d)


def blocks_for(channels: int) -> dict[str, int]:
    """Return the tile of a program: all channels, and as many tokens as fit."""
    width = triton.next_power_of_2(channels)
    return {"BLOCK_T": max(1, min(CHUNK, TILE // width)), "BLOCK_D": width}


def forward(o: Tensor, gate: Tensor | None, weights: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return y (B, L, D) in o.dtype and the moments (B, K, L, 2); gate and weights are contiguous float32."""
    batch, directions, length, channels = o.shape
    y = torch.empty(batch, length, channels, dtype=o.dtype, device=o.device)
    moments = torch.empty(batch, directions, length, 2, dtype=torch.float32, device=o.device)
    tile = blocks_for(channels)
    if o.numel():
        with torch.cuda.device_of(o):
            merge_forward[(batch * triton.cdiv(length, tile["BLOCK_T"]),)](
                o, gate, weights, y, moments, directions, length, channels, eps, *o.stride(),
                **tile, num_warps=NUM_WARPS, **launch_options(o.device),
            )  # fmt: skip
    return y, moments


def mean(o: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the mean over the tokens of the normalised rows (B, K, D) in o.dtype and the moments (B, K, L, 2)."""
    batch, directions, length, channels = o.shape
    chunks = triton.cdiv(length, CHUNK)
    sums = torch.empty(batch, directions, chunks, channels, dtype=torch.float32, device=o.device)
    moments = torch.empty(batch, directions, length, 2, dtype=torch.float32, device=o.device)
    if o.numel():
        with torch.cuda.device_of(o):
            mean_forward[(batch * directions * chunks,)](
                o, sums, moments, directions, length, channels, eps, *o.stride(),
                CHUNK=CHUNK, **blocks_for(channels), num_warps=NUM_WARPS, **launch_options(o.device),
            )  # fmt: skip
    return (sums.sum(2) / length).to(o.dtype), moments


def backward(
    dy: Tensor, o: Tensor, gate: Tensor | None, weights: Tensor | None, moments: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return do (B, K, L, D) in o.dtype, dgate (B, K, D) and dweights (K,) in float32, empty of what is absent.

    dy has o's number of axes; those that it is the same along have a stride of 0.
    """
    batch, directions, length, channels = o.shape
    chunks = triton.cdiv(length, CHUNK)
    do = torch.empty(o.shape, dtype=o.dtype, device=o.device)
    dgate, dweight = (
        None if given is None else torch.empty(batch, directions, chunks, *rest, dtype=torch.float32, device=o.device)
        for given, rest in ((gate, (channels,)), (weights, ()))
    )
    if o.numel():
        with torch.cuda.device_of(o):
            merge_backward[(batch * directions * chunks,)](
                o, gate, weights, moments, dy, do, dgate, dweight, directions, length, channels, *o.stride(), *dy.stride(),
                CHUNK=CHUNK, **blocks_for(channels), num_warps=NUM_WARPS, **launch_options(o.device),
            )  # fmt: skip
    absent = [moments.new_empty(0) for _ in range(2)]  # operators return no tensor twice
    return do, absent[0] if dgate is None else dgate.sum(2), absent[1] if dweight is None else dweight.sum((0, 2))


def gated_sum(o: Tensor, gate: Tensor | None, spatial: Tensor | None) -> Tensor:
    """Return the sum of the gated branches (B, L, D) in o.dtype; gates are contiguous float32."""
    batch, directions, length, channels = o.shape
    y = torch.empty(batch, length, channels, dtype=o.dtype, device=o.device)
    tile = blocks_for(channels)
    if o.numel():
        with torch.cuda.device_of(o):
            sum_forward[(batch * triton.cdiv(length, tile["BLOCK_T"]),)](
                o, gate, spatial, y, directions, length, channels, *o.stride(),
                **tile, num_warps=NUM_WARPS, **launch_options(o.device),
            )  # fmt: skip
    return y


def gated_sum_backward(dy: Tensor, o: Tensor, gate: Tensor | None, spatial: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return do (B, K, L, D) in o.dtype, dgate (B, K, D) and dspatial (B, K, L) in float32, empty of what is absent."""
    batch, directions, length, channels = o.shape
    chunks = triton.cdiv(length, CHUNK)
    do = torch.empty(o.shape, dtype=o.dtype, device=o.device)
    dgate, dspatial = (
        None if given is None else torch.empty(batch, directions, *rest, dtype=torch.float32, device=o.device)
        for given, rest in ((gate, (chunks, channels)), (spatial, (length,)))
    )
    if o.numel():
        with torch.cuda.device_of(o):
            sum_backward[(batch * directions * chunks,)](
                o, gate, spatial, dy, do, dgate, dspatial, directions, length, channels, *o.stride(), *dy.stride(),
                CHUNK=CHUNK, **blocks_for(channels), num_warps=NUM_WARPS, **launch_options(o.device),
            )  # fmt: skip
    absent = [torch.empty(0, dtype=torch.float32, device=o.device) for _ in range(2)]  # operators return no tensor twice
    return do, absent[0] if dgate is None else dgate.sum(2), absent[1] if dspatial is None else dspatial
