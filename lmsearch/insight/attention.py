"""The implicit attention of a selective scan: how much of every token there is in what the scan gives for another one.

Unrolled over time, a scan is a lower triangular matrix for every channel d (Ali, Zimerman and Wolf, arXiv 2403.01590, eq. 11):
    y_t = sum over s <= t of M[t, s, d] x_s
    M[t, s, d] = sum over n of C_t[n] exp(A[d, n] (Delta_{s+1} + ... + Delta_t)) Delta_s B_s[n]
The skip D, the gate and the convolution before the scan are no part of it.
Shapes: K directions, L tokens, P >= L tokens of a padded grid or with a class token, D channels, N states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmsearch.errors import ModelError, did_you_mean
from lmsearch.kernels.reference import along, whole_delta
from lmsearch.models.mixer import DirectionalMixer
from lmsearch.models.scan_groups import ScanGroup, scan_groups
from lmsearch.scan.grids import Grid


@dataclass(frozen=True)
class Call:
    """What a mixer was called with: tokens x (B, L, d_model) on their grid, with the place of a class token among them."""

    x: Tensor
    grid: Grid
    cls_index: int | None


def mixers_of(model: nn.Module) -> dict[str, DirectionalMixer]:
    """Return the mixers of a network by layer name, such as "layers.0", in forward order."""
    return {name.removesuffix(".mixer"): m for name, m in model.named_modules() if isinstance(m, DirectionalMixer)}


def mixer_named(model: nn.Module, layer: str) -> DirectionalMixer:
    """Return the mixer of a layer, by name or number; raise ModelError where there is none."""
    mixers = mixers_of(model)
    if layer.removeprefix("-").isdecimal() and -len(mixers) <= int(layer) < len(mixers):
        return [*mixers.values()][int(layer)]
    if layer not in mixers:
        raise ModelError(f"layer={layer!r} is no layer of this network{did_you_mean(layer, mixers)}, or 0 to {len(mixers) - 1}")
    return mixers[layer]


@torch.no_grad()
def call_of(model: nn.Module, mixer: DirectionalMixer, images: Tensor) -> Call:
    """Return what a mixer of the network is called with for these images (B, C, h, w)."""
    found: list[Call] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(Call(args[0], args[1], kwargs.get("cls_index")))

    handle = mixer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        model(images)
    finally:
        handle.remove()
    return found[0]


@torch.no_grad()
def scan_attention(mixer: DirectionalMixer, call: Call) -> dict[str, np.ndarray]:
    """Return |M| (L, L) of every direction, mean over channels and images: row i, column j is what token i takes of token j.

    Tokens are in raster order, without a class token and without padding.
    """
    inner, gate = mixer.entered(call.x, call.grid)
    tokens, _ = mixer.split(inner, gate)
    found: dict[str, np.ndarray] = {}
    for group in scan_groups(mixer.directions, call.grid, mixer.options.window_padding, call.cls_index):
        arguments = mixer.scan_arguments(tokens, group, tuple(range(len(mixer.directions))))
        inside = places_of_tokens(group)
        for k, branch in enumerate(group.branches):
            order = arguments["order"][k].long()
            matrix = torch.zeros(len(order), len(order))
            for t, row in enumerate(rows_of(arguments, k)):
                matrix[order[t], order[: t + 1]] = row.abs().mean((0, 2)).float().cpu()  # (B, t + 1, D) to (t + 1,)
            found[mixer.directions[branch]] = matrix.numpy()[np.ix_(inside, inside)]
    return {name: found[name] for name in mixer.directions}


def rows_of(arguments: dict[str, Any], k: int) -> Iterator[Tensor]:
    """Yield row t of M (B, t + 1, D) of direction k, in the order of the visit; `arguments` are those of directional_scan."""
    order, bias = arguments["order"][k : k + 1], arguments["delta_bias"][k]
    delta = whole_delta(arguments["delta"][:, k : k + 1], arguments["delta_weight"][k : k + 1])  # (B, 1, P, D)
    steps = along(F.softplus(delta.float() + bias.float()), order)[:, 0]  # (B, P, D)
    B, C = (along(arguments[name][:, k : k + 1].float(), order)[:, 0] for name in ("B", "C"))  # (B, P, N)
    A, passed = arguments["A"][k].float(), steps.cumsum(1)
    for t in range(steps.shape[1]):
        decay = torch.exp(A * (passed[:, t : t + 1] - passed[:, : t + 1]).unsqueeze(-1))  # (B, t + 1, D, N)
        read = B[:, : t + 1] * C[:, t : t + 1]  # (B, t + 1, N)
        yield torch.einsum("bsdn,bsn->bsd", decay, read) * steps[:, : t + 1]


def places_of_tokens(group: ScanGroup) -> np.ndarray:
    """Return the places (L,) of the grid's own tokens among the P that a group scans."""
    padded = np.arange(int(np.prod(group.padded))).reshape(group.padded)
    inside = padded[tuple(slice(side) for side in group.grid)].ravel()
    return inside if group.cls_index is None else inside + (inside >= group.cls_index)
