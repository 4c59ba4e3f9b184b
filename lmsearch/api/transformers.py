"""Trained networks of run folders as models of Transformers, to save with `save_pretrained` and use there (extra `dense`)."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lmsearch.engine.checkpoint import ModelSpec, check_weights, data_of, read_model
from lmsearch.errors import CheckpointError
from lmsearch.genotype import FILE, dumps, load_genotype
from lmsearch.interop import transformers
from lmsearch.models.dense.net import BACKBONE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)


def classifier_of(run: str | Path) -> PreTrainedModel:
    """Return the classifier of a run folder, or of a model.safetensors or checkpoint.pt, with the names of its classes.

    Raises CheckpointError where the network has a dense head: of that, take `backbone_of`.
    """
    path = Path(run)
    spec, weights = read_model(path)
    if spec.options.get("head") is not None:
        raise CheckpointError(f"{path}: its network has head={spec.options['head']} and classifies no images; take backbone_of")
    transformers.register()
    from lmsearch.interop.transformers.modeling import CLASSIFIERS

    config = _config(path, spec)
    return _filled(CLASSIFIERS[config.model_type](config), {f"model.{name}": value for name, value in weights.items()}, path)


def backbone_of(run: str | Path) -> PreTrainedModel:
    """Return the backbone of a run folder, of any task, or of a model.safetensors or checkpoint.pt.

    Norms and convolutions between the network and its maps start fresh, but for those of a network with a head of Transformers.
    """
    path = Path(run)
    spec, weights = read_model(path)
    transformers.register()
    from lmsearch.interop.transformers.modeling import BACKBONES

    config = _config(path, spec)
    config.out_indices = list(range(config.stages()))
    model = BACKBONES[config.model_type](config)
    own = {name: value for name, value in model.state_dict().items() if name.startswith("neck.")}
    there = {name: value for name, value in weights.items() if name.startswith("neck.")}
    fits = {name: value.shape for name, value in own.items()} == {name: value.shape for name, value in there.items()}
    if not fits:
        log.warning("%s: what makes the maps of the backbone starts fresh", path)
    inside = {name: value for name, value in weights.items() if not name.startswith(("neck.", "head."))}
    named = {f"model.{name.removeprefix(BACKBONE)}": value for name, value in inside.items()}
    return _filled(model, named | (there if fits else own), path)


def _config(path: Path, spec: ModelSpec) -> Any:
    """Return the configuration of a stored network, with its genotype, class names and normalisation where they are known."""
    from lmsearch.interop.transformers.configuration import config_of

    known: dict[str, Any] = {}
    labels: tuple[str, ...] = ()
    if spec.data.get("info") is not None:
        info = data_of(spec, source=str(path))
        labels = info.class_names
        known = {"image_mean": list(info.mean), "image_std": list(info.std)}
    file = (path if path.is_dir() else path.parent) / FILE
    if file.is_file():
        known["genotype"] = json.loads(dumps(load_genotype(file)))
    return config_of(spec.name, spec.directions, spec.merge, spec.options, labels=labels, **known)


def _filled(model: PreTrainedModel, weights: dict[str, Tensor], path: Path) -> PreTrainedModel:
    """Return the model with these weights."""
    check_weights(model.state_dict(), weights, source=str(path))
    model.load_state_dict(weights)
    return model.eval()
