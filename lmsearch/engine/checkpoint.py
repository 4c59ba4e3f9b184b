"""Checkpoints: checkpoint.pt to continue a run, and model.safetensors + model.json to use a trained model anywhere."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from lmsearch.data import DataInfo, check_described
from lmsearch.engine.digest import digest_of, raw_bytes
from lmsearch.engine.finite import unfinite_weights
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.stored import check_entries, check_kinds, check_tensor, named_otherwise, needed
from lmsearch.engine.torch_file import tensors_of
from lmsearch.errors import CheckpointError, DataError, LmsearchError, short
from lmsearch.files import finite
from lmsearch.models import create_model
from lmsearch.models.backbone import Network
from lmsearch.models.merge import present_merge
from lmsearch.paths import CHECKPOINT_SCHEMA, is_exported
from lmsearch.reading import is_file, is_folder, parse_json, read_text
from lmsearch.scan.directions import present_name
from lmsearch.words import first_of

VERSION = 1
MODEL = "model.safetensors"  # the final weights of a run
CHECKPOINT = "checkpoint.pt"  # what a run goes on from
RESERVED = ("name", "directions", "merge", "backend", "family")  # no options of a description, though arguments of create_model
SPEC_KEYS = {"version": int, "name": str, "directions": list | tuple, "merge": str, "options": dict, "data": dict}
DIGEST = "sha256"  # key of the digests in checkpoint.pt, model.json and, of weights and of their net, in .safetensors files
MOST_LAYERS = 2**12  # of a model, however many stages it has
SHOWN = 3  # tensors that do not fit, in a message
DAMAGED = "damaged: its content is not what was written (SHA-256 differs)"


@dataclass(frozen=True)
class ModelSpec:
    """All that rebuilds a model: its name, `create_model` options, directions per layer, merge, and the data it was made for."""

    name: str
    directions: tuple[tuple[str, ...], ...]
    merge: str = "sum"
    options: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def build(self, *, backend: str = "auto") -> Network:
        """Create the model with fresh weights; `backend` runs its scans."""
        net: Network = create_model(self.name, directions=self.directions, merge=self.merge, backend=backend, **self.options)
        return net

    def agrees_with(self, other: ModelSpec) -> bool:
        """Tell whether two specs are of the same net for the same data, of which a version may know more than another."""
        return replace(self, data={}) == replace(other, data={}) and _agree(self.data, other.data)

    @classmethod
    def from_dict(cls, values: object, *, source: str) -> ModelSpec:
        """Rebuild a spec from `asdict` output; raise CheckpointError, naming `source`, where keys or types are others.

        Whether the values make a model is found where it is built.
        """
        if not isinstance(values, dict):
            raise CheckpointError(f"{source}: the model description {short(values)} is not an object")
        version = values.get("version", VERSION)
        if type(version) is not int or version != VERSION:
            raise CheckpointError(f"{source}: version {short(version)} of a model cannot be read; accepted: {VERSION}")
        if unknown := [key for key in values if key not in SPEC_KEYS]:
            raise CheckpointError(f"{source}: unknown key {short(unknown[0])} in the model description")
        for key, kind in SPEC_KEYS.items():
            if key not in values and key != "version":
                raise CheckpointError(f"{source}: the model description is incomplete ({key} is missing)")
            if not isinstance(values.get(key, VERSION), kind):
                raise CheckpointError(f"{source}: {key} {short(values[key])} is not what a model description holds")
        if (layers := len(values["directions"])) > MOST_LAYERS:
            raise CheckpointError(f"{source}: directions of {layers:,} layers; accepted: up to {MOST_LAYERS:,}")
        for number, layer in enumerate(values["directions"]):
            if not isinstance(layer, list | tuple) or not all(isinstance(name, str) for name in layer):
                raise CheckpointError(f"{source}: directions of layer {number}, {short(layer)}, are not a list of names")
        _check_source(values["data"], source=source)
        if own := [key for key in RESERVED if key in values["options"]]:
            raise CheckpointError(f"{source}: {own[0]} is no option of a model description")
        directions = tuple(tuple(map(present_name, layer)) for layer in values["directions"])
        merge = present_merge(values["merge"])
        return cls(values["name"], directions, merge, dict(values["options"]), dict(values["data"]))


def _check_source(data: Mapping[str, Any], *, source: str) -> None:
    """Raise CheckpointError where a description names a data source that there is not, or options that it does not take."""
    if data.get("source") not in (None, {}):
        try:
            check_described(data["source"])
        except DataError as error:
            raise CheckpointError(f"{source}: {error}") from error


def data_of(spec: ModelSpec, *, source: str) -> DataInfo:
    """Return what a model was made for; raise CheckpointError, naming `source`, where that is wrong or of another network."""
    try:
        info = DataInfo.from_dict(spec.data.get("info"))
    except DataError as error:
        raise CheckpointError(f"{source}: {error}") from error
    for name in ("num_classes", "in_chans"):
        if (own := spec.options.get(name, getattr(info, name))) != getattr(info, name):
            raise CheckpointError(f"{source}: its network has {name}={own}, its data description {getattr(info, name)}")
    return info


def load_model(spec: ModelSpec, weights: Mapping[str, Tensor], *, source: str, backend: str = "auto") -> Network:
    """Return the network of `spec` filled with `weights`; no memory is taken before both are known to fit.

    Raises CheckpointError, naming `source`, where the description makes no model or the weights are another one's.
    """
    try:
        with torch.device("meta"):
            shapes = spec.build().state_dict()
    except LmsearchError as error:
        raise CheckpointError(f"{source}: {error}") from error
    check_weights(shapes, weights, source=source)
    model = spec.build(backend=backend)
    model.load_state_dict(dict(weights))
    return model


def _agree(one: object, other: object) -> bool:
    """Tell whether nested dicts hold equal values where both have one."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_agree(value, other[key]) for key, value in one.items() if key in other)
    return one == other


def save_checkpoint(run_dir: RunDir, state: dict[str, Any], *, file: str = CHECKPOINT) -> None:
    """Write `state` (tensors and plain values) and its SHA-256; an interrupted write leaves the old file whole."""
    state = state | {"schema": CHECKPOINT_SCHEMA, "version": VERSION}
    run_dir.write_torch(file, state | {DIGEST: digest_of(state)})


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read checkpoint.pt (or the run directory that holds it), tensors and plain values only.

    Raises CheckpointError for a missing, damaged, exported or foreign file.
    """
    path = path / CHECKPOINT if path.is_dir() else path
    if not path.is_file():
        raise no_checkpoint(path)
    if is_exported(path):
        raise CheckpointError(f"{path} is an exported file, which evaluate, predict and latency take; give its run directory")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: not a readable checkpoint: {error.strerror or error}") from error
    except Exception as error:  # bytes that were damaged make the unpickler raise anything
        reason = "not a readable checkpoint: damaged, cut short, or holding more than tensors and plain values"
        raise CheckpointError(f"{path}: {named_otherwise(path) or reason}") from error
    if not isinstance(state, dict) or state.get("schema") != CHECKPOINT_SCHEMA:
        reason = "not an lmsearch checkpoint; released LocalMamba files are read by `lmsearch convert`"
        raise CheckpointError(f"{path}: {named_otherwise(path) or reason}")
    if type(state.get("version")) is not int or state["version"] != VERSION:
        raise CheckpointError(f"{path}: checkpoint version {short(state.get('version'))} is not supported; accepted: {VERSION}")
    for tensor in tensors_of(state):
        check_tensor(tensor, source=str(path))
    written = state.pop(DIGEST, None)  # those of version 0.1.0 have none
    if written is not None and written != _digest_of_entries(state, source=str(path)):
        raise CheckpointError(f"{path}: {DAMAGED}")
    check_entries(state, source=str(path))
    return state


def no_checkpoint(path: Path) -> CheckpointError:
    """Return the error for a file or folder that is not there."""
    asked = path.name == CHECKPOINT or re.fullmatch(r"s\d+", path.name)  # a folder that may hold seeds, or a seed that is not
    seeds = sorted(found.parent.name for found in path.parent.glob("s[0-9]*/checkpoint.pt")) if asked else []
    hint = f"; its seeds hold one each: {', '.join(seeds)}" if seeds else ""
    return CheckpointError(f"{path}: no such checkpoint; expected a checkpoint.pt or a run directory that holds one{hint}")


def _digest_of_entries(state: dict[str, Any], *, source: str) -> str:
    """Return the digest of what was read; raise CheckpointError where it holds what no checkpoint does."""
    try:
        return digest_of(state)
    except TypeError as error:
        raise CheckpointError(f"{source}: {error}") from error


def save_model(run_dir: RunDir, spec: ModelSpec, weights: dict[str, Tensor], *, file: str = MODEL) -> None:
    """Write the weights as `file` and, beside it, model.json with all that rebuilds and feeds the model, each with its digest."""
    weights = {name: weights[name].contiguous() for name in sorted(weights)}
    described = json.loads(json.dumps(finite({"version": VERSION} | asdict(spec)), sort_keys=True))  # as it is read back
    digests = f"{digest_of(weights)} {net_digest(described)}"  # one entry, since those of a header come in any order
    run_dir.write(file, safetensors.torch.save(weights, metadata={DIGEST: digests}))
    run_dir.write_json("model.json", described | {DIGEST: digest_of(described)})


def weights_file(path: Path) -> Path:
    """Return the file of a run directory that holds its result; a file is returned as it is."""
    return path / (MODEL if (path / MODEL).exists() else CHECKPOINT) if is_folder(path) else path


def read_model(path: Path) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Read spec and weights from model.safetensors, a run directory that holds one, or a checkpoint.pt.

    Of a checkpoint.pt these are the averaged weights, where there are some, as in model.safetensors.
    """
    path = weights_file(path)
    if path.suffix != ".safetensors":
        state = load_checkpoint(path)
        return ModelSpec.from_dict(state.get("spec"), source=str(path)), result_of(state, source=str(path))
    description = path.with_name("model.json")
    for file in (path, description):
        if not is_file(file):
            raise CheckpointError(f"{file}: no such file; a model is a model.safetensors with its model.json beside it")
    (spec, described), (weights, net) = read_description(description), read_weights(path)
    if net is not None and net != net_digest(described):
        raise CheckpointError(f"{path}: weights of another net than {description} tells of; put their own model.json beside them")
    return spec, weights


def net_digest(described: dict[str, Any]) -> str:
    """Return the digest of the net that a model.json tells of: its name, options, directions and merge, not its data."""
    return digest_of({name: described.get(name) for name in ("name", "options", "directions", "merge")})


def result_of(state: dict[str, Any], *, source: str) -> dict[str, Tensor]:
    """Return the weights, as stored, that a run is judged by: their moving average, where the checkpoint keeps one."""
    if state.get("ema") is None:
        weights: dict[str, Tensor] = needed(state, "model", source=source)
        return weights
    return {name.removeprefix("module."): value for name, value in state["ema"].items() if name.startswith("module.")}


def read_description(path: Path) -> tuple[ModelSpec, dict[str, Any]]:
    """Return the spec of a model.json and what the file holds but for its digest; raise CheckpointError where it is damaged."""
    text = read_text(path, where=str(path), error=CheckpointError)
    described = parse_json(text, where=str(path), error=CheckpointError)
    written = described.pop(DIGEST, None) if isinstance(described, dict) else None  # those of version 0.1.0 have none
    spec = ModelSpec.from_dict(described, source=str(path))
    if written is not None and written != digest_of(described):
        raise CheckpointError(f"{path}: {DAMAGED}; if you have changed it yourself, delete its {DIGEST!r} entry")
    return spec, described


def read_weights(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Return the weights of a .safetensors file and the digest of their net; raise CheckpointError where it is damaged.

    Files of version 0.1.0 hold no digests.
    """
    try:
        content = path.read_bytes()
        found = safetensors.torch.load(content)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable model ({error})") from error
    weights = {name: found[name] for name in sorted(found)}
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    written, _, net = header.get("__metadata__", {}).get(DIGEST, "").partition(" ")
    if written and written != digest_of(weights):
        raise CheckpointError(f"{path}: {DAMAGED}")
    return weights, net or None


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names and values of `weights`."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(raw_bytes(weights[name]))
    return digest.hexdigest()


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Fill `model` with `weights`, all or nothing; raise CheckpointError where they are another model's, or not finite."""
    check_weights(model.state_dict(), weights, source=source)
    model.load_state_dict(dict(weights))


def check_weights(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], *, source: str) -> None:
    """Raise CheckpointError that names the first missing, unexpected or mis-shaped tensors, or those that are not finite.

    Of the model's own only shapes and kinds of numbers count: fractions may be stored in fewer or more bits.
    """
    problems = [f"{k} is missing" for k in own if k not in weights]
    problems += [f"{short(k)[1:-1]} is not in the model" for k in weights if k not in own]
    problems += [
        f"{k} is {tuple(weights[k].shape)}, the model's {tuple(own[k].shape)}"
        for k in own
        if k in weights and weights[k].shape != own[k].shape
    ]
    if problems:
        raise CheckpointError(f"{source}: a checkpoint of another model: {first_of(problems, SHOWN, between='; ')}")
    check_kinds(own, weights, source=source)
    check_finite(weights, source=source)


def check_finite(weights: Mapping[str, Tensor], *, source: str) -> None:
    """Raise CheckpointError that names the weights that are not finite."""
    if (bad := unfinite_weights(weights)) is not None:
        raise CheckpointError(f"{source}: its weights are not finite ({bad}): the training that made them diverged")
