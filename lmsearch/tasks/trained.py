"""Loading a trained network for `evaluate` and `predict`: weights, classes and normalisation travel together."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from lmsearch.data import DataInfo
from lmsearch.engine.checkpoint import ModelSpec, load_weights, read_model
from lmsearch.engine.train import Precision
from lmsearch.errors import CheckpointError


def load_trained(checkpoint: str, precision: Precision, *, backend: str) -> tuple[nn.Module, ModelSpec, DataInfo]:
    """Rebuild the network of a model.safetensors, checkpoint.pt or run directory, ready to evaluate on the device."""
    spec, weights = read_model(Path(checkpoint))
    if "info" not in spec.data:
        raise CheckpointError(
            f"{checkpoint}: the model carries no data description (classes, image size, normalisation)"
        )
    model = spec.build(backend=backend)
    load_weights(model, weights, source=str(checkpoint))
    return model.to(precision.device).eval(), spec, DataInfo.from_dict(spec.data["info"])
