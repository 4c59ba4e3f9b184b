"""Trained networks and the data that they were trained on: weights, classes, size and normalisation travel together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lmsearch.data import DataInfo, Source, build_source, options_of
from lmsearch.data.checks import number
from lmsearch.data.order import shared_by
from lmsearch.engine.checkpoint import ModelSpec, data_of, load_model, read_model
from lmsearch.engine.train import Precision
from lmsearch.errors import CheckpointError, ConfigError
from lmsearch.export.loaded import load_exported
from lmsearch.models.backbone import Network
from lmsearch.paths import is_exported
from lmsearch.reading import is_same
from lmsearch.tasks.parts.build import seen_by
from lmsearch.tasks.parts.known import IMAGE, SPLIT

PER_STEP, DENSE_PER_STEP = 256, 8  # images that are answered at a time: a class per image, or pixels or objects, which take more


def images_per_step(given: int | None, info: DataInfo, *, processes: int = 1) -> int:
    """Return how many images are answered at a time: those that are `given`, else as many as suit the network's answers.

    The latter are a number that so many processes can share: about as many, but one for each at least.
    """
    if given is not None:
        return given
    usual = DENSE_PER_STEP if info.targets.per_pixel or info.targets.objects else PER_STEP
    return shared_by(processes, usual)


def load_answering(checkpoint: str, precision: Precision, *, backend: str) -> tuple[nn.Module, ModelSpec, DataInfo]:
    """Return a trained network, or an exported file as one; the others are as `load_trained` gives them.

    Raises CheckpointError where an exported file is asked for another arithmetic or other kernels than it holds.
    """
    if not is_exported(path := Path(checkpoint)):
        return load_trained(checkpoint, precision, backend=backend)
    if backend != "auto" or precision.name != "fp32":
        asked = f"backend={backend}" if backend != "auto" else f"precision={precision.name}"
        raise CheckpointError(f"{checkpoint}: an exported file computes as it was written; leave {asked} out")
    net = load_exported(path)
    return net, net.described.spec, net.described.info


def load_trained(checkpoint: str, precision: Precision, *, backend: str) -> tuple[Network, ModelSpec, DataInfo]:
    """Rebuild the network of a model.safetensors, checkpoint.pt or run directory, ready to evaluate on the device."""
    spec, weights = read_model(Path(checkpoint))
    if "info" not in spec.data:
        raise CheckpointError(f"{checkpoint}: the model carries no data description (classes, image size, normalisation)")
    info = data_of(spec, source=checkpoint)
    model = load_model(spec, weights, source=str(checkpoint), backend=backend)
    if model.num_classes != info.num_classes:
        raise CheckpointError(f"{checkpoint}: its network has {model.num_classes} outputs, its data {info.num_classes}")
    return model.to(precision.device).eval(), spec, info


def seen_in_training(data: Mapping[str, Any], spec: ModelSpec) -> str | None:
    """Return a line where images validate that trained a network: of the same folder, it set others aside.

    A smaller share of image files is a part of a larger one, and no image of it trained.
    """
    trained = spec.data.get("source") or {}
    if trained.get("val_digest") in (None, data.get("val_digest")) or "root" not in trained or "root" not in data:
        return None
    if not is_same(data["root"], trained["root"]):
        return None
    mine, its = data.get("val_fraction"), number("val_fraction", trained.get("val_fraction"))
    if "split_seed" not in trained and mine is not None and mine < its:
        return None
    shares = " ".join(f"data.{key}={trained[key]}" for key in SPLIT if key in trained)
    return f"was trained on images of {data['root']} that validate now, whose scores flatter it: it set others aside, by {shares}"


def own_source(spec: ModelSpec, checkpoint: str) -> Source:
    """Return the data that a network was trained on, seen as it saw them."""
    options = dict(spec.data.get("source") or {})
    if not options:
        raise ConfigError(f"{checkpoint} does not say what data it was trained on")
    info = data_of(spec, source=checkpoint)
    seen = {name: getattr(info, name) for name in IMAGE if name in options_of(options["name"])}
    return seen_by(spec.options.get("head"), data_for(options | seen, info))


def data_for(options: Mapping[str, Any], info: DataInfo) -> Source:
    """Return the data source of `options` for a network that was trained on `info`: its classes, in their order."""
    name = options["name"]
    classes = {key: getattr(info, key) for key in ("class_names", "categories") if key in options_of(name)}
    return build_source(name, **{key: value for key, value in options.items() if key != "name"} | classes)
