"""How much memory one training step of a model needs, from what `complexity` counts.

What is there at the peak, in the backward pass of the last layer: the tensors kept of every layer, the gradients inside the
largest one, and weights, gradients and the two moments of AdamW. Of layers that run some branches at a time, only those count.
With the native or Triton kernels; the reference backend needs several times as much.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lmsearch.models.complexity import LayerCost, complexity
from lmsearch.models.mixer import DirectionalMixer
from lmsearch.scan.grids import num_tokens

STATES = 4  # numbers held for every parameter: weight, gradient, two moments
PARAMETER_BYTES = 4  # weights stay in float32 under autocast


def step_bytes(
    model: nn.Module,
    img_size: tuple[int, int],
    batch_size: int,
    *,
    running: Sequence[int] | None = None,
    bytes_per_value: int = 4,
    recomputed: bool = False,
    keeps_delta: bool = False,
) -> int:
    """Return the bytes of a step of `batch_size` images; `running` branches of each layer run at a time (None: all).

    `recomputed`: what is inside the mixers is not kept but computed again, one layer at a time. `keeps_delta`: as the Triton
    kernels do (`complexity`).
    """
    report = complexity(model, img_size, bytes_per_value=bytes_per_value, keeps_delta=keeps_delta)
    running = running or [len(layer.directions) for layer in report.layers]
    layers = [kept_bytes(layer, number) for layer, number in zip(report.layers, running, strict=True)]
    between = sum(layers)
    if recomputed:  # of each layer the inputs of norm and mixer, and all of the one whose gradients are computed
        mixers = (m for m in model.modules() if isinstance(m, DirectionalMixer))
        inputs = [2 * num_tokens(layer.grid) * m.in_proj.in_features for layer, m in zip(report.layers, mixers, strict=True)]
        between = sum(inputs) * bytes_per_value + max(layers)
    kept = between + report.rest.activation_bytes + max(layers)
    return batch_size * kept + STATES * PARAMETER_BYTES * report.parameters


def kept_bytes(layer: LayerCost, running: int) -> int:
    """Return the bytes that one layer keeps for the backward pass of one image."""
    branches = sum(d.total.activation_bytes for d in layer.directions)
    return layer.shared.activation_bytes + branches * running // len(layer.directions)
