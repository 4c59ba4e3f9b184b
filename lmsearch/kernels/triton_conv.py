"""The causal depthwise convolution and silu along K orders as two Triton kernels, and the functions that launch them.

Shapes: B batch, K directions, L tokens, D channels, W taps. The forward cuts time into blocks, one program each. The
backward gives one program a (batch, direction, block of channels): it goes over time block by block and keeps the
gradient of the weights in registers. Each token sees its W - 1 predecessors and is seen by its W - 1 successors, so a
block of the backward reads 2W - 1 shifted tiles of x. Strides are passed for x and dy; everything else is contiguous.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lmsearch.kernels.launch import launch_options

BLOCK_T = 16
BLOCK_D = 64
NUM_WARPS = 4


@triton.jit
def visited(row, order_row, t, token_stride, length, in_d):
    """Load the tile of the tokens visited at times t, zero outside the sequence: (T, block) in float32."""
    live = (t >= 0) & (t < length)
    token = tl.load(order_row + t, mask=live, other=0).to(tl.int64)
    return tl.load(row[None, :] + (token * token_stride)[:, None], mask=live[:, None] & in_d[None, :], other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["directions", "length", "time_blocks"])
def conv_forward(
    x_ptr,
    weight_ptr,
    bias_ptr,
    order_ptr,
    y_ptr,
    directions,
    length,
    channels,
    time_blocks,
    x_b,
    x_l,
    x_d,
    W: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write y (B, K, L, D)."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(channels, BLOCK_D)
    scan = (pid // blocks // time_blocks).to(tl.int64)  # batch * K + k
    k = scan % directions
    d = (pid % blocks * BLOCK_D + tl.arange(0, BLOCK_D)).to(tl.int64)
    t = (pid // blocks) % time_blocks * BLOCK_T + tl.arange(0, BLOCK_T)
    in_d = d < channels
    order_row = order_ptr + k * length
    x_row = x_ptr + scan // directions * x_b + d * x_d

    pre = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)
    if bias_ptr is not None:
        pre += tl.load(bias_ptr + k * channels + d, mask=in_d, other=0.0)[None, :]
    for j in tl.static_range(W):
        tap = tl.load(weight_ptr + (k * channels + d) * W + j, mask=in_d, other=0.0)
        pre += tap[None, :] * visited(x_row, order_row, t - (W - 1) + j, x_l, length, in_d)
    y = pre * tl.sigmoid(pre)
    token = tl.load(order_row + t, mask=t < length, other=0).to(tl.int64)
    out = y_ptr + scan * length * channels + d[None, :] + (token * channels)[:, None]
    tl.store(out, y.to(y_ptr.dtype.element_ty), mask=(t < length)[:, None] & in_d[None, :])


@triton.jit(do_not_specialize=["directions", "length"])
def conv_backward(
    x_ptr,
    weight_ptr,
    bias_ptr,
    order_ptr,
    dy_ptr,
    dx_ptr,
    dw_ptr,
    dbias_ptr,
    directions,
    length,
    channels,
    x_b,
    x_l,
    x_d,
    dy_b,
    dy_k,
    dy_l,
    dy_d,
    W: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write dx per direction (B, K, L, D), dweight (B, K, W, D) and dbias (B, K, D) per image."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(channels, BLOCK_D)
    scan = (pid // blocks).to(tl.int64)  # batch * K + k
    batch = scan // directions
    k = scan % directions
    d = (pid % blocks * BLOCK_D + tl.arange(0, BLOCK_D)).to(tl.int64)
    in_d = d < channels
    order_row = order_ptr + k * length
    x_row = x_ptr + batch * x_b + d * x_d
    dy_row = dy_ptr + batch * dy_b + k * dy_k + d * dy_d
    bias = tl.zeros([BLOCK_D], tl.float32)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + k * channels + d, mask=in_d, other=0.0)
    taps = ()
    dw = ()
    for j in tl.static_range(W):
        taps = taps + (tl.load(weight_ptr + (k * channels + d) * W + j, mask=in_d, other=0.0),)
        dw = dw + (tl.zeros([BLOCK_D], tl.float32),)

    dbias = tl.zeros([BLOCK_D], tl.float32)
    for block in range(tl.cdiv(length, BLOCK_T)):
        t = block * BLOCK_T + tl.arange(0, BLOCK_T)
        near = ()  # x at times t - (W - 1), ..., t + (W - 1)
        for i in tl.static_range(2 * W - 1):
            near = near + (visited(x_row, order_row, t - (W - 1) + i, x_l, length, in_d),)
        dx = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)
        for ahead in tl.static_range(W):
            pre = tl.zeros([BLOCK_T, BLOCK_D], tl.float32) + bias[None, :]
            for j in tl.static_range(W):
                pre += taps[j][None, :] * near[ahead + j]
            gate = tl.sigmoid(pre)
            dpre = visited(dy_row, order_row, t + ahead, dy_l, length, in_d) * gate * (1.0 + pre * (1.0 - gate))
            dx += taps[W - 1 - ahead][None, :] * dpre
            if ahead == 0:
                dbias += tl.sum(dpre, axis=0)
                grown = ()
                for j in tl.static_range(W):
                    grown = grown + (dw[j] + tl.sum(dpre * near[j], axis=0),)
                dw = grown
        token = tl.load(order_row + t, mask=t < length, other=0).to(tl.int64)
        out = dx_ptr + scan * length * channels + d[None, :] + (token * channels)[:, None]
        tl.store(out, dx.to(dx_ptr.dtype.element_ty), mask=(t < length)[:, None] & in_d[None, :])

    for j in tl.static_range(W):
        tl.store(dw_ptr + (scan * W + j) * channels + d, dw[j], mask=in_d)
    tl.store(dbias_ptr + scan * channels + d, dbias, mask=in_d)


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor) -> Tensor:
    """Return y (B, K, L, D) in x.dtype; weight and bias are contiguous float32, order contiguous int32."""
    batch, length, channels = x.shape
    directions, _, taps = weight.shape
    y = torch.empty(batch, directions, length, channels, dtype=x.dtype, device=x.device)
    block = min(BLOCK_D, triton.next_power_of_2(channels))
    time_blocks = triton.cdiv(length, BLOCK_T)
    if y.numel():
        with torch.cuda.device_of(x):
            conv_forward[(batch * directions * time_blocks * triton.cdiv(channels, block),)](
                x,
                weight,
                bias,
                order,
                y,
                directions,
                length,
                channels,
                time_blocks,
                *x.stride(),
                W=taps,
                BLOCK_T=BLOCK_T,
                BLOCK_D=block,
                num_warps=NUM_WARPS,
                **launch_options(x.device),
            )
    return y


def backward(dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx (B, L, D) in x.dtype, dweight (K, D, W) and dbias (K, D) in float32."""
    batch, length, channels = x.shape
    directions, _, taps = weight.shape
    dx = torch.empty(batch, directions, length, channels, dtype=x.dtype, device=x.device)
    dw = torch.empty(batch, directions, taps, channels, dtype=torch.float32, device=x.device)
    dbias = torch.empty(batch, directions, channels, dtype=torch.float32, device=x.device)
    block = min(BLOCK_D, triton.next_power_of_2(channels))
    if dx.numel():
        with torch.cuda.device_of(x):
            conv_backward[(batch * directions * triton.cdiv(channels, block),)](
                x,
                weight,
                bias,
                order,
                dy,
                dx,
                dw,
                dbias,
                directions,
                length,
                channels,
                *x.stride(),
                *dy.stride(),
                W=taps,
                BLOCK_T=BLOCK_T,
                BLOCK_D=block,
                num_warps=NUM_WARPS,
                **launch_options(x.device),
            )
    return dx.sum(1), dw.sum(0).transpose(1, 2).contiguous(), dbias.sum(0)
