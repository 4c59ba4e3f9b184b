"""The selective scan along K orders as two Triton kernels, forward and backward, and the functions that launch them.

Shapes: B batch, K directions, L tokens, D channels, N states. One program per (batch, direction, block of channels):
it walks time in order with the state (block, N) in registers and reads row k of `order` as it goes, so nothing is
gathered, flipped or padded in memory. The backward starts from the state before every chunk of tokens but the first
(kept by the forward, or made again by a second run of it), rebuilds one chunk at a time in registers and sweeps it in
reverse. Sums over channels (dB, dC) leave one partial per block of channels, sums over the batch (dA, dD, ddelta_bias)
one per image: no atomics, the same bits every run.

Pointer arguments carry one stride per axis of (B, K, L, D or N), so any layout is read where it lies; the small ones
(A, D, delta_bias, order, reset) and every output are contiguous. Offsets are int64. Nothing that depends on the image
size is a constexpr.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from lmsearch.kernels.launch import launch_options

LOG2_E = 1.4426950408889634
LN_2 = tl.constexpr(0.6931471805599453)


@dataclass(frozen=True)
class ScanConfig:
    """How the work is cut: tokens per saved state, and channels and warps per program, forward and backward.

    The defaults come from reading the machine code (no spills, fewest instructions per element); no GPU has timed them.
    """

    chunk: int = 8
    forward_block: int = 64
    forward_warps: int = 2
    backward_block: int = 64
    backward_warps: int = 4
    save_states: bool = False  # True: one forward faster in the backward, 4 N / chunk bytes per (b, k, l, d) saved

    @classmethod
    def from_list(cls, fields: Sequence[int]) -> ScanConfig:
        """Return the configuration that `as_list` wrote."""
        chunk, forward_block, forward_warps, backward_block, backward_warps, save_states = fields
        return cls(chunk, forward_block, forward_warps, backward_block, backward_warps, bool(save_states))

    def as_list(self) -> list[int]:
        """The fields as integers, the form in which the operators carry them."""
        return [int(v) for v in astuple(self)]


@triton.jit
def softplus(v):
    """log(1 + exp(v)) to full relative precision, also where exp(v) is far below one."""
    e = tl.exp(-tl.abs(v))
    s = 1.0 + e
    rounded = tl.where(s == 1.0, 1.0, s - 1.0)
    return tl.maximum(v, 0.0) + tl.where(s == 1.0, e, tl.log(s) * (e / rounded))


@triton.jit
def time_step(raw, bias, live, SOFTPLUS: tl.constexpr):
    """The step of one token from the raw delta: bias, softplus, and zero where the lane is not live."""
    dt = raw + bias
    if SOFTPLUS:
        dt = softplus(dt)
    return tl.where(live, dt, 0.0)


# fmt: off
# From here on arguments are tables: one row for each tensor and its strides.
@triton.jit(do_not_specialize=["directions", "length"])
def scan_forward(
    x_ptr, delta_ptr, a2_ptr, b_ptr, c_ptr, d_ptr, z_ptr, bias_ptr, order_ptr, reset_ptr, y_ptr, states_ptr,
    directions, length, channels,
    x_b, x_k, x_l, x_d, delta_b, delta_k, delta_l, delta_d,
    b_b, b_k, b_l, b_n, c_b, c_k, c_l, c_n, z_b, z_l, z_d,
    SOFTPLUS: tl.constexpr, N: tl.constexpr, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):
    """Write y and, where states_ptr is given, the state before every chunk but the first."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(channels, BLOCK_D)
    batch = (pid // blocks // directions).to(tl.int64)
    k = ((pid // blocks) % directions).to(tl.int64)
    d = (pid % blocks * BLOCK_D + tl.arange(0, BLOCK_D)).to(tl.int64)
    n = tl.arange(0, BLOCK_N).to(tl.int64)
    in_d = d < channels
    in_n = n < N
    inside = in_d[:, None] & in_n[None, :]
    tile = d[:, None] * N + n[None, :]

    scan = batch * directions + k
    x_row = x_ptr + batch * x_b + k * x_k + d * x_d
    delta_row = delta_ptr + batch * delta_b + k * delta_k + d * delta_d
    b_row = b_ptr + batch * b_b + k * b_k + n * b_n
    c_row = c_ptr + batch * c_b + k * c_k + n * c_n
    y_row = y_ptr + scan * length * channels + d
    order_row = order_ptr + k * length
    a2 = tl.load(a2_ptr + k * channels * N + tile, mask=inside, other=0.0)
    bias = tl.zeros([BLOCK_D], tl.float32)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + k * channels + d, mask=in_d, other=0.0)
    if d_ptr is not None:
        skip = tl.load(d_ptr + k * channels + d, mask=in_d, other=0.0)
    if states_ptr is not None:
        states_row = states_ptr + scan * ((length - 1) // CHUNK) * channels * N + tile

    h = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)
    # The values of token t + 1 are fetched while token t is computed, its index one step earlier still.
    token = tl.load(order_row).to(tl.int64)
    raw = tl.load(delta_row + token * delta_l, mask=in_d, other=0.0)
    u = tl.load(x_row + token * x_l, mask=in_d, other=0.0)
    b = tl.load(b_row + token * b_l, mask=in_n, other=0.0)
    c = tl.load(c_row + token * c_l, mask=in_n, other=0.0)
    following = tl.load(order_row + 1, mask=length > 1, other=0).to(tl.int64)
    for t in range(length):
        more = t + 1 < length
        next_raw = tl.load(delta_row + following * delta_l, mask=in_d & more, other=0.0)
        next_u = tl.load(x_row + following * x_l, mask=in_d & more, other=0.0)
        next_b = tl.load(b_row + following * b_l, mask=in_n & more, other=0.0)
        next_c = tl.load(c_row + following * c_l, mask=in_n & more, other=0.0)
        after = tl.load(order_row + t + 2, mask=t + 2 < length, other=0).to(tl.int64)

        if states_ptr is not None:  # noqa: SIM102 - known at compile time; the inner one is not
            if (t % CHUNK == 0) & (t > 0):
                tl.store(states_row, h, mask=inside)
                states_row += channels * N
        dt = time_step(raw.to(tl.float32), bias, in_d, SOFTPLUS)
        u32 = u.to(tl.float32)
        decay = tl.exp2(dt[:, None] * a2)
        if reset_ptr is not None:
            decay = tl.where(tl.load(reset_ptr + k * length + token) != 0, 0.0, decay)
        h = decay * h + (dt * u32)[:, None] * b.to(tl.float32)[None, :]
        y = tl.sum(h * c.to(tl.float32)[None, :], axis=1)
        if d_ptr is not None:
            y += skip * u32
        if z_ptr is not None:
            z = tl.load(z_ptr + batch * z_b + token * z_l + d * z_d, mask=in_d, other=0.0).to(tl.float32)
            y *= z * tl.sigmoid(z)
        tl.store(y_row + token * channels, y.to(y_ptr.dtype.element_ty), mask=in_d)
        token, following, raw, u, b, c = following, after, next_raw, next_u, next_b, next_c


@triton.jit(do_not_specialize=["directions", "length"])
def scan_backward(
    x_ptr, delta_ptr, a2_ptr, b_ptr, c_ptr, d_ptr, z_ptr, bias_ptr, order_ptr, reset_ptr, states_ptr, dy_ptr,
    dx_ptr, ddelta_ptr, da_ptr, db_ptr, dc_ptr, dd_ptr, dz_ptr, dbias_ptr,
    directions, length, channels,
    x_b, x_k, x_l, x_d, delta_b, delta_k, delta_l, delta_d,
    b_b, b_k, b_l, b_n, c_b, c_k, c_l, c_n, z_b, z_l, z_d, dy_b, dy_k, dy_l, dy_d,
    SOFTPLUS: tl.constexpr, N: tl.constexpr, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):
    """Write dx, ddelta, dz per direction, dB, dC per block of channels, dA, dD, ddelta_bias per image."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(channels, BLOCK_D)
    batch = (pid // blocks // directions).to(tl.int64)
    k = ((pid // blocks) % directions).to(tl.int64)
    d = (pid % blocks * BLOCK_D + tl.arange(0, BLOCK_D)).to(tl.int64)
    n = tl.arange(0, BLOCK_N).to(tl.int64)
    in_d = d < channels
    in_n = n < N
    inside = in_d[:, None] & in_n[None, :]
    tile = d[:, None] * N + n[None, :]

    scan = batch * directions + k
    chunks = tl.cdiv(length, CHUNK)
    x_row = x_ptr + batch * x_b + k * x_k + d * x_d
    delta_row = delta_ptr + batch * delta_b + k * delta_k + d * delta_d
    b_row = b_ptr + batch * b_b + k * b_k + n * b_n
    c_row = c_ptr + batch * c_b + k * c_k + n * c_n
    dy_row = dy_ptr + batch * dy_b + k * dy_k + d * dy_d
    out_row = scan * length * channels + d  # dx, ddelta, dz: (B, K, L, D)
    part_row = (scan * blocks + pid % blocks) * length * N + n  # dB, dC: (B, K, blocks, L, N)
    order_row = order_ptr + k * length
    states_row = states_ptr + scan * (chunks - 1) * channels * N + tile
    a2 = tl.load(a2_ptr + k * channels * N + tile, mask=inside, other=0.0)
    bias = tl.zeros([BLOCK_D], tl.float32)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + k * channels + d, mask=in_d, other=0.0)
    skip = tl.zeros([BLOCK_D], tl.float32)
    if d_ptr is not None:
        skip = tl.load(d_ptr + k * channels + d, mask=in_d, other=0.0)

    carry = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)  # gradient of the state, seen from the token after
    da = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)
    dd = tl.zeros([BLOCK_D], tl.float32)
    dbias = tl.zeros([BLOCK_D], tl.float32)
    for back in range(chunks):
        chunk = chunks - 1 - back
        h = tl.load(states_row + (chunk - 1) * channels * N, mask=inside & (chunk > 0), other=0.0)
        states = (h,)  # before token 0, 1, ..., CHUNK of the chunk
        steps = ()
        for i in tl.static_range(CHUNK):  # past the end dt is zero: the state stays as it is
            live = chunk * CHUNK + i < length
            token = tl.load(order_row + chunk * CHUNK + i, mask=live, other=0).to(tl.int64)
            raw = tl.load(delta_row + token * delta_l, mask=in_d & live, other=0.0).to(tl.float32)
            u = tl.load(x_row + token * x_l, mask=in_d & live, other=0.0).to(tl.float32)
            b = tl.load(b_row + token * b_l, mask=in_n & live, other=0.0).to(tl.float32)
            dt = time_step(raw, bias, in_d & live, SOFTPLUS)
            decay = tl.exp2(dt[:, None] * a2)
            if reset_ptr is not None:
                decay = tl.where(tl.load(reset_ptr + k * length + token, mask=live, other=0) != 0, 0.0, decay)
            h = decay * h + (dt * u)[:, None] * b[None, :]
            states = states + (h,)
            steps = steps + (dt,)

        for i in tl.static_range(CHUNK):
            at = chunk * CHUNK + (CHUNK - 1 - i)
            live = at < length
            token = tl.load(order_row + at, mask=live, other=0).to(tl.int64)
            u = tl.load(x_row + token * x_l, mask=in_d & live, other=0.0).to(tl.float32)
            b = tl.load(b_row + token * b_l, mask=in_n & live, other=0.0).to(tl.float32)
            c = tl.load(c_row + token * c_l, mask=in_n & live, other=0.0).to(tl.float32)
            dy = tl.load(dy_row + token * dy_l, mask=in_d & live, other=0.0).to(tl.float32)
            h = states[CHUNK - i]
            dt = steps[CHUNK - 1 - i]
            if z_ptr is not None:
                z = tl.load(z_ptr + batch * z_b + token * z_l + d * z_d, mask=in_d & live, other=0.0).to(tl.float32)
                gate = tl.sigmoid(z)
                y = tl.sum(h * c[None, :], axis=1) + skip * u
                dz = dy * y * gate * (1.0 + z * (1.0 - gate))
                tl.store(dz_ptr + out_row + token * channels, dz.to(dz_ptr.dtype.element_ty), mask=in_d & live)
                dy *= z * gate
            dd += dy * u
            dh = carry + dy[:, None] * c[None, :]
            dc = tl.sum(dy[:, None] * h, axis=0)
            db = tl.sum((dt * u)[:, None] * dh, axis=0)
            decay = tl.exp2(dt[:, None] * a2)
            if reset_ptr is not None:
                decay = tl.where(tl.load(reset_ptr + k * length + token, mask=live, other=0) != 0, 0.0, decay)
            carry = decay * dh
            through = carry * states[CHUNK - 1 - i]
            da += through * dt[:, None]
            input_part = tl.sum(dh * b[None, :], axis=1)
            ddt = input_part * u + tl.sum(through * a2, axis=1) * LN_2
            if SOFTPLUS:
                raw = tl.load(delta_row + token * delta_l, mask=in_d & live, other=0.0).to(tl.float32)
                ddt *= tl.sigmoid(raw + bias)
            ddt = tl.where(in_d & live, ddt, 0.0)
            dbias += ddt
            dx = dy * skip + input_part * dt
            tl.store(dx_ptr + out_row + token * channels, dx.to(dx_ptr.dtype.element_ty), mask=in_d & live)
            tl.store(ddelta_ptr + out_row + token * channels, ddt.to(ddelta_ptr.dtype.element_ty), mask=in_d & live)
            tl.store(db_ptr + part_row + token * N, db, mask=in_n & live)
            tl.store(dc_ptr + part_row + token * N, dc, mask=in_n & live)

    tl.store(da_ptr + scan * channels * N + tile, da, mask=inside)
    if dd_ptr is not None:
        tl.store(dd_ptr + scan * channels + d, dd, mask=in_d)
    if dbias_ptr is not None:
        tl.store(dbias_ptr + scan * channels + d, dbias, mask=in_d)


def pieces(length: int, chunk: int) -> int:
    """Number of saved states of one scan: one before every chunk but the first."""
    return max(0, (length - 1) // chunk)


def strides(*tensors: Tensor | None, axes: int = 4) -> list[int]:
    """The strides of the tensors one after the other; zeros for an absent one."""
    return [s for t in tensors for s in (t.stride() if t is not None else (0,) * axes)]


def block_of(channels: int, block: int) -> int:
    """The block of channels: a power of two, no larger than needed."""
    return min(block, triton.next_power_of_2(channels))


def forward(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, order: Tensor, reset: Tensor | None, delta_softplus: bool, keep_states: bool,
    config: ScanConfig,
) -> tuple[Tensor, Tensor]:
    """Return y (B, K, L, D) in x.dtype and the saved states (B, K, pieces, D, N), empty unless `keep_states`.

    x is (B, K, L, D), possibly expanded; A, D and delta_bias are contiguous float32, order contiguous int32.
    """
    batch, directions, length, channels = delta.shape
    n = A.shape[-1]
    y = torch.empty(delta.shape, dtype=x.dtype, device=x.device)
    kept = pieces(length, config.chunk) if keep_states else 0
    states = torch.empty(batch, directions, kept, channels, n, dtype=torch.float32, device=x.device)
    block = block_of(channels, config.forward_block)
    if y.numel():
        with torch.cuda.device_of(x):
            scan_forward[(batch * directions * triton.cdiv(channels, block),)](
                x, delta, A * LOG2_E, B, C, D, z, delta_bias, order, reset, y, states if kept else None,
                directions, length, channels, *strides(x, delta, B, C), *strides(z, axes=3),
                SOFTPLUS=delta_softplus, N=n, CHUNK=config.chunk, BLOCK_D=block,
                BLOCK_N=triton.next_power_of_2(n), num_warps=config.forward_warps, **launch_options(x.device),
            )
    return y, states


def backward(
    dy: Tensor, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, order: Tensor, reset: Tensor | None, states: Tensor, delta_softplus: bool,
    config: ScanConfig,
) -> list[Tensor]:
    """Return dx (B, K, L, D), ddelta, dA, dB, dC, dD, dz (B, L, D), ddelta_bias; an empty tensor for an absent input."""
    batch, directions, length, channels = delta.shape
    n = A.shape[-1]
    if states.shape[2] < pieces(length, config.chunk):
        states = forward(x, delta, A, B, C, D, None, delta_bias, order, reset, delta_softplus, True, config)[1]
    block = block_of(channels, config.backward_block)
    blocks = triton.cdiv(channels, block)

    def out(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=x.device)

    dx, ddelta = out(*delta.shape, dtype=x.dtype), out(*delta.shape, dtype=delta.dtype)
    dz = None if z is None else out(*delta.shape, dtype=z.dtype)
    da = out(batch, directions, channels, n)
    db, dc = (out(batch, directions, blocks, length, n) for _ in "BC")
    dd, dbias = (None if t is None else out(batch, directions, channels) for t in (D, delta_bias))
    if delta.numel():
        with torch.cuda.device_of(x):
            scan_backward[(batch * directions * blocks,)](
                x, delta, A * LOG2_E, B, C, D, z, delta_bias, order, reset, states, dy,
                dx, ddelta, da, db, dc, dd, dz, dbias,
                directions, length, channels, *strides(x, delta, B, C), *strides(z, axes=3), *strides(dy),
                SOFTPLUS=delta_softplus, N=n, CHUNK=config.chunk, BLOCK_D=block,
                BLOCK_N=triton.next_power_of_2(n), num_warps=config.backward_warps, **launch_options(x.device),
            )
    total = [
        dx, ddelta, da.sum(0), db.sum(2).to(B.dtype), dc.sum(2).to(C.dtype), None if dd is None else dd.sum(0),
        None if dz is None else dz.sum(1), None if dbias is None else dbias.sum(0),
    ]
    return [x.new_empty(0) if t is None else t for t in total]  # a fresh one each: outputs may not share memory
