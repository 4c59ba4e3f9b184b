"""The network of a run, rebuilt without memory for its weights: the token grid of every layer, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lmsearch.errors import LmsearchError
from lmsearch.models import create_model
from lmsearch.models.complexity import complexity
from lmsearch.report.page.folder import Run
from lmsearch.scan.grids import Grid

OF_SUPERNETS = "partial_channels"  # an option of searches, which no derived network has


@dataclass(frozen=True)
class Network:
    """A derived network: grids by layer, and for one image its parameters, MACs, FLOPs and bytes kept for training."""

    grids: dict[str, Grid]
    parameters: int
    macs: int
    flops: int
    activation_bytes: int


def network_of(run: Run, directions: Sequence[Sequence[str]] | None) -> Network | None:
    """Return the network with these directions (None: the model's own), None where the run does not tell its model."""
    if not run.about:
        return None
    options = {name: value for name, value in run.about.get("options", {}).items() if name != OF_SUPERNETS}
    if directions is not None:
        options["directions"] = [list(layer) for layer in directions]
    try:
        with torch.device("meta"):
            model = create_model(run.about["model"], **options)
        counted = complexity(model)
    except (LmsearchError, TypeError, KeyError):  # about.json of another version, or other directions than its layers
        return None
    cost = counted.total
    grids = {layer.name: layer.grid for layer in counted.layers}
    return Network(grids, counted.parameters, cost.macs, cost.flops, cost.activation_bytes)
