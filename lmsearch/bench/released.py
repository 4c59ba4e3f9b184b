"""The K-direction LocalVim mixer in the released arrangement, written anew as plainly as possible: what we are compared with.

Channel-first; x and the gate z are permuted together once per direction; then convolution, projections and scan run
direction by direction, and every result is permuted back. It borrows the weights of one of our mixers, so that both
compute the same function. Shapes: B batch, L tokens, D inner channels, N states, K directions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmsearch.bench.scans import PEERS, eager_loop, mamba_ssm_scan, mambapy_scan
from lmsearch.models.local_vim import LocalVimMixer
from lmsearch.scan.directions import index_table
from lmsearch.scan.grids import Grid

Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def channel_first_loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Loop over time, each tensor unbound once: u, delta (B, D, L), B, C (B, N, L) -> (B, D, L); its backward is linear."""
    h, out = torch.zeros((), dtype=u.dtype, device=u.device), []
    for dt, x, b, c in zip(*(t.unbind(-1) for t in (delta, u, B, C)), strict=True):
        h = torch.exp(dt.unsqueeze(-1) * A) * h + (dt * x).unsqueeze(-1) * b.unsqueeze(1)  # (B, D, N)
        out.append(torch.matmul(h, c.unsqueeze(-1)).squeeze(-1))
    return torch.stack(out, dim=-1) + D.unsqueeze(-1) * u


def channel_last(scan: Scan) -> Scan:
    """Return a channel-last scan as one that takes and returns channel-first tensors."""

    def run(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
        u, delta, B, C = (t.transpose(1, 2) for t in (u, delta, B, C))
        return scan(u, delta, A, B, C, D).transpose(1, 2)

    return run


SCANS: dict[str, Scan] = {
    "eager loop": channel_first_loop,
    "eager loop, channel-last": channel_last(eager_loop),
    "mambapy": channel_last(mambapy_scan),
    "mamba-ssm": channel_last(mamba_ssm_scan),
}


def available_scans(device: str) -> list[str]:
    """Return the scans of SCANS that can run on `device`."""
    return [name for name in SCANS if name not in PEERS or PEERS[name].unavailable(device) is None]


class ReleasedMixer(nn.Module):
    """The released arrangement around one scan of SCANS, with the weights of `mixer` (merge "weighted", no padding)."""

    def __init__(self, mixer: LocalVimMixer, scan: str) -> None:
        super().__init__()
        self.mixer, self.selective_scan = mixer, SCANS[scan]

    def forward(self, hidden: Tensor, grid: Grid, *, cls_index: None = None) -> Tensor:
        """hidden (B, L, d_model) -> (B, L, d_model)."""
        mixer = self.mixer
        xz = mixer.in_proj(hidden).transpose(1, 2).contiguous()  # (B, 2D, L)
        orders = torch.tensor(index_table(mixer.directions, grid), dtype=torch.int64, device=hidden.device)  # (K, L)
        merged, weights = hidden.new_zeros(()), mixer.branch_weights(tuple(range(len(orders))))
        for k, order in enumerate(orders):
            x, z = xz[:, :, order].chunk(2, dim=1)  # each (B, D, L), in the order of the visit
            y = self.direction(x, z, k)[:, :, order.argsort()].transpose(1, 2)  # (B, L, D), in raster order
            gate = 1.0 if mixer.attn is None else mixer.attn(y.unsqueeze(1), backend="reference")[0]  # (B, 1, D)
            merged = merged + weights[k] * F.layer_norm(y * gate, y.shape[-1:])
        return mixer.out_proj(merged)

    def direction(self, x: Tensor, z: Tensor, k: int) -> Tensor:
        """One direction on its own: x, z (B, D, L) in the order of the visit -> (B, D, L)."""
        m = self.mixer
        taps, length = m.conv_weight.shape[-1], x.shape[-1]
        u = F.conv1d(x, m.conv_weight[k].unsqueeze(1), m.conv_bias[k], padding=taps - 1, groups=x.shape[1])
        u = F.silu(u[..., :length])
        low_rank = F.linear(u.transpose(1, 2), m.x_proj_weight[k])  # (B, L, R + 2N)
        dt, B, C = low_rank.split((m.dt_rank, m.d_state, m.d_state), dim=-1)
        delta = F.softplus(F.linear(dt, m.dt_proj_weight[k], m.dt_proj_bias[k])).transpose(1, 2).contiguous()
        B, C = (t.transpose(1, 2).contiguous() for t in (B, C))
        y = self.selective_scan(u, delta, -torch.exp(m.A_log[k]), B, C, m.D[k])
        return y * F.silu(z)
