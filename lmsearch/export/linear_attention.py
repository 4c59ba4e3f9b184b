"""The scan as one LinearAttention, an operator of onnxruntime's own: a head for every channel, with N keys and one value.

Queries are C, keys B, values delta u, and decays delta A, which the operator takes before exp: the same recurrence, for decays,
keys and queries that are written out for every channel.
Shapes: B batch, K directions, L tokens, D channels, N states.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lmsearch.export.portable import Portable

OPERATOR, DOMAIN = "LinearAttention", "com.microsoft"


def attributes(channels: int) -> dict[str, Any]:
    """Return the attributes of the operator that make it the recurrence of D = `channels` channels."""
    return {"q_num_heads": channels, "kv_num_heads": channels, "update_rule": "gated", "scale": 1.0}


class LinearAttention(Portable):
    """Portable operators whose recurrence is one node of onnxruntime for all directions, and nothing that PyTorch can run."""

    def recurrence(self, dt: Tensor, du: Tensor, B: Tensor, C: Tensor, A: Tensor) -> Tensor:
        """As `Portable.recurrence`; only a graph that becomes an ONNX file gives values."""
        (batch, directions, _, channels), states = dt.shape, A.shape[-1]
        decay = (dt.unsqueeze(-1) * A[:, None]).flatten(3)  # (B, K, L, D * N)
        query, key = (t.repeat(1, 1, 1, channels) for t in (C, B))
        inputs = [t.flatten(0, 1) for t in (query, key, du, decay)]  # (B * K, L, ...)
        made: Any = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{OPERATOR}",
            [*inputs[:3], None, inputs[3]],
            attributes(channels),
            dtypes=(dt.dtype, dt.dtype),
            shapes=(inputs[2].shape, (batch * directions, channels, states, 1)),
            version=1,
        )
        y: Tensor = made[0]
        return y.unflatten(0, (batch, directions))
