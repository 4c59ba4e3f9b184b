"""SCAttn, LocalMamba's spatial and channel attention: one gate per branch from that branch's own tokens.

Shapes: B batch, K directions, L tokens, D channels, Q = D * reduction hidden channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmsearch.kernels import normed_mean
from lmsearch.kernels.ops import Backend

KINDS = ("channel", "spatial_channel", "none")


class SCAttn(nn.Module):
    """Gates of the branches o (B, K, L, D), shared weights: with t = LayerNorm(o) and exact GELU,

    g = gelu(global_reduce(mean_L t)), l = gelu(local_reduce(t)),
    channel gate sigmoid(channel_select(g)) (B, K, D), spatial gate sigmoid(spatial_select([l, g])) (B, K, L) or None.
    `kind="channel"` is what the released LocalMamba computes; "spatial_channel" is the paper's formula.
    """

    def __init__(self, dim: int, *, kind: str, reduction: float = 0.125) -> None:
        super().__init__()
        hidden = int(dim * reduction)
        self.norm = nn.LayerNorm(dim)
        self.global_reduce = nn.Linear(dim, hidden)
        self.channel_select = nn.Linear(hidden, dim)
        self.local_reduce = nn.Linear(dim, hidden) if kind == "spatial_channel" else None
        self.spatial_select = nn.Linear(2 * hidden, 1) if kind == "spatial_channel" else None

    def forward(self, o: Tensor, *, backend: Backend = "auto") -> tuple[Tensor, Tensor | None]:
        weight, bias = self.norm.weight, self.norm.bias
        # the affine part after the mean: the same by linearity, with smaller rounding errors in its gradients
        mean = normed_mean(o, eps=self.norm.eps, backend=backend)
        g = F.gelu(self.global_reduce(mean * weight + bias))  # (B, K, Q)
        channel = torch.sigmoid(self.channel_select(g))
        if self.spatial_select is None or self.local_reduce is None:
            return channel, None
        t = F.layer_norm(o, self.norm.normalized_shape, weight, bias, self.norm.eps)
        local = F.gelu(self.local_reduce(t))  # (B, K, L, Q)
        # spatial_select([l, g]) without repeating g over the tokens
        on_local, on_global = self.spatial_select.weight.chunk(2, dim=1)
        score = F.linear(local, on_local) + F.linear(g, on_global, self.spatial_select.bias).unsqueeze(2)
        return channel, torch.sigmoid(score).squeeze(-1)  # (B, K, D), (B, K, L)


def build_attention(kind: str, dim: int) -> SCAttn | None:
    """Return the attention `kind` ("channel", "spatial_channel") for D = dim channels, or None for "none"."""
    return None if kind == "none" else SCAttn(dim, kind=kind)
