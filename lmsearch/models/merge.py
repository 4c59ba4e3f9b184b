"""How the branches of a layer become one: the plain sum of a derived net, or the weighted sum of a supernet.

Shapes: branches o (B, K, L, D); channel gate (B, K, D) and spatial gate (B, K, L) or None; result (B, L, D).
"""

from __future__ import annotations

import logging
from functools import lru_cache

import torch
from torch import Tensor

from lmsearch.kernels import gated_sum, weighted_merge
from lmsearch.kernels.ops import Backend

MERGES = ("sum", "weighted")
RENAMED = {"mixed": "weighted"}  # names of earlier versions
log = logging.getLogger(__name__)
Gates = tuple[Tensor | None, Tensor | None]


@lru_cache(maxsize=None)  # one warning is enough
def present_merge(name: str) -> str:
    """Return the name that a merge of an earlier version has today, with one warning; other text is returned as it is."""
    if name in RENAMED:
        log.warning("merge=%r is now called %r; the old name is still read", name, RENAMED[name])
    return RENAMED.get(name, name)


def gated(o: Tensor, gates: Gates) -> Tensor:
    """Apply the attention gates to the branches."""
    channel, spatial = gates
    if channel is not None:
        o = o * channel.unsqueeze(2)
    return o if spatial is None else o * spatial.unsqueeze(-1)


def merge_sum(o: Tensor, gates: Gates, *, backend: Backend = "auto") -> Tensor:
    """Sum of the gated branches."""
    return o.sum(1) if all(gate is None for gate in gates) else gated_sum(o, *gates, backend=backend)


def merge_weighted(
    o: Tensor, gates: Gates, weights: Tensor, *, branch_norm: bool = True, eps: float = 1e-5, backend: Backend = "auto"
) -> Tensor:
    """Weighted sum of the gated branches, each normalised by a LayerNorm without affine so that only `weights` (K,) scale it.

    Without `branch_norm` a branch can scale itself, and its weight says little about its part in the sum.
    """
    channel, spatial = gates
    if not branch_norm:
        wide = weights.to(torch.promote_types(weights.dtype, torch.float32))[None, :, None]  # bf16 makes close ones equal
        return gated_sum(o, channel, wide.expand(o.shape[:3]) if spatial is None else wide * spatial, backend=backend)
    if spatial is not None:
        o, channel = gated(o, gates), None
    return weighted_merge(o, channel, weights, eps=eps, backend=backend)
