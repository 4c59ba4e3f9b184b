"""lmsearch convert: a released LocalMamba checkpoint into a run directory of ours, or a network of ours into such a file."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from lmsearch.config import settings_of
from lmsearch.data import DataInfo
from lmsearch.data.sources.imagefolder import IMAGENET_MEAN, IMAGENET_STD
from lmsearch.engine.checkpoint import (
    CHECKPOINT,
    MODEL,
    VERSION,
    ModelSpec,
    check_finite,
    load_model,
    read_model,
    save_model,
)
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.torch_file import save_torch
from lmsearch.engine.warm_start import Start, start_from
from lmsearch.errors import CheckpointError, ConfigError
from lmsearch.files import make_folder
from lmsearch.genotype import FILE, Genotype, LayerChoice, check_depth, dumps, load_genotype
from lmsearch.interop.key_names import LOCALMAMBA, names_for, options_told
from lmsearch.interop.localmamba import beyond_released, load_official_state_dict, to_official_state_dict
from lmsearch.interop.released_file import DESCRIPTION, read_described_checkpoint
from lmsearch.models import DirectionalMixer, create_model, model_depth
from lmsearch.models.backbone import Network
from lmsearch.models.local_vim import LocalVim
from lmsearch.reading import read_text, user_path
from lmsearch.scan.directions import label
from lmsearch.search_space import load_search_space
from lmsearch.settings.model import Model
from lmsearch.settings.tasks import Convert
from lmsearch.tasks.parts.converted import CANDIDATES, SEARCH, search_of, told_search, write_supernet
from lmsearch.tasks.parts.facts import read_facts
from lmsearch.tasks.parts.run_dir import RESULTS, WORK, Claim

log = logging.getLogger(__name__)

AMBIGUOUS = {  # the released code defines this name twice; the later, un-searched definition wins there
    "local_vim_small": "localmamba/local_vim_small_wo_search",
}
DEFAULT_SIDE = 224  # pixels
HEADS = ("head.weight", "classifier.head.weight")
SIZES = (  # option, the released tensors that tell it (behind stem=conv, the image meets the stem first), their axis
    ("num_classes", HEADS, 0),
    ("in_chans", ("patch_embed.stem.0.weight", "patch_embed.proj.weight", "patch_embed.0.weight"), 1),
)
MISSING = "its own default"


def run(cfg: DictConfig) -> int:
    """Convert the source in the direction that to= says."""
    settings = settings_of(Convert, cfg)
    if settings.to == "official":
        refuse_without_effect(settings)
        return to_official(settings)
    return from_official(settings)


def refuse_without_effect(settings: Convert) -> None:
    """Raise ConfigError where keys are set that say what a released file holds: a network of ours says it itself."""
    unset = {"model": None, "genotype": None, "weights": "model", "img_size": None, "class_names": None}
    if given := [f"{key}=" for key, value in unset.items() if getattr(settings, key) != value]:
        raise ConfigError(
            f"{', '.join(given)} would change nothing: to=official writes the network as it is; accepted: source= and out="
        )


def to_official(settings: Convert) -> int:
    """Write {"model": state dict under the released names} of a network of ours to the file that out= names.

    Beside "model" stands the network's description, since names and shapes do not tell directions and options; the released
    code does not look at it.
    """
    out = Path(settings.out)
    if out.is_dir():
        raise ConfigError(f"out={str(out)!r} is a folder; with to=official give the file to write, such as {out / 'model.pth'}")
    keep_files(out)
    spec, weights = read_model(Path(settings.source))
    model = load_model(spec, weights, source=settings.source)
    names = names_for(spec.name)
    official = to_official_state_dict(model, names)
    told = search_of(Path(settings.source)) if spec.merge == "weighted" else {}
    make_folder(out.parent, key="out")
    save_torch(out, {"model": official, DESCRIPTION: {"version": VERSION} | asdict(spec) | told})
    if beyond := beyond_released(model, names):
        log.warning("%s: the released code cannot run it, for its %s; `lmsearch convert` reads it back", out, ", ".join(beyond))
    print(f"{spec.name}: {len(official)} tensors under the released names, below 'model': {out}")
    return 0


def keep_files(out: Path) -> None:
    """Raise ConfigError where the file is there already, or is one that a run in its folder writes."""
    if out.is_file():
        raise ConfigError(f"out={str(out)!r} exists already; name another file, or delete it first")
    if (task := Claim.read(out.parent).task) and out.name in (*WORK, *RESULTS):
        raise ConfigError(f"out={str(out)!r} is a file of a run of lmsearch {task}; name another one")


def from_official(settings: Convert) -> int:
    """Write model.safetensors and genotype.json, or for a supernet checkpoint.pt, to the folder that out= names."""
    source, out = Path(settings.source), RunDir(Path(settings.out))
    if out.path.is_file():
        raise ConfigError(f"out={str(out)!r} is a file; give the folder to write")
    weights, description = read_described_checkpoint(source, which=settings.weights)
    told = {} if description is None else told_search(description, source=str(source))
    if description is not None:
        spec = described(settings, description)
    elif settings.model is None:
        raise ConfigError("lmsearch convert needs model=..., the architecture of the released checkpoint")
    else:
        spec = describe(settings, settings.model, weights)
    model = spec.build()
    try:
        load_official_state_dict(model, weights, names_for(spec.name, weights))
    except CheckpointError as error:
        raise CheckpointError(f"{source} as {spec.name}: {error}") from error
    check_finite(model.state_dict(), source=str(source))
    model, spec = in_order(settings, model, spec)
    with out.owned(key="out"):
        if task := Claim.read(out.path).task:
            raise ConfigError(f"{out} holds a run of lmsearch {task}, whose files would be lost; choose another out=")
        if there := [name for name in (MODEL, "model.json", FILE, CHECKPOINT) if (out / name).exists()]:
            raise ConfigError(f"{out / there[0]} exists already, and would be lost; name another folder, or delete it first")
        if spec.merge == "weighted":
            write_supernet(out, spec, model.state_dict(), told)
        else:
            save_model(out, spec, model.state_dict())
            layers = tuple(LayerChoice(names, layer) for layer, names in zip(mixer_names(model), spec.directions, strict=True))
            out.write(FILE, dumps(Genotype(layers, model=spec.name, derivation={"method": "converted"})))
            print(f"{spec.name}: {sum(p.numel() for p in model.parameters()):,} parameters: {out / 'model.safetensors'}")
            print(f"genotype: {out / 'genotype.json'}")
            if model.num_classes == 0:
                print("note: the file holds no head, so the network has no classes and cannot be evaluated as it is")
            else:
                data = "" if spec.data.get("source") else " data=imagefolder data.root=..."
                print(f"next: lmsearch evaluate {shlex.quote(f'checkpoint={out}')}{data}")
            if description is None and answers_otherwise(model, spec.name):
                height, width = spec.options["img_size"]
                print(f"note: at other sizes than {height}x{width} the released code answers otherwise (docs/recipes.md)")
    return 0


def answers_otherwise(model: Network, name: str) -> bool:
    """Tell whether the released code has other rotary tables at other image sizes: it resizes those that it stores."""
    return isinstance(model, LocalVim) and model.use_rope and names_for(name) is LOCALMAMBA


def describe(settings: Convert, model: Model, weights: dict[str, Tensor]) -> ModelSpec:
    """Return the description of the model that holds `weights`, with channels and classes as in the checkpoint."""
    options = model.options()
    name = options.pop("name")
    supernet = any(key.endswith("multi_scan.weights") for key in weights)
    for option, keys, axis in SIZES:
        sizes = [weights[key].shape[axis] for key in keys if key in weights and weights[key].dim() > axis]
        options |= {option: sizes[0]} if sizes else {}
    if not any(key in weights for key in HEADS):
        options["num_classes"] = 0
    options["img_size"] = side_or_sides(settings.img_size)
    options = options_told(names_for(name), weights) | options
    merge = "weighted" if supernet else "sum"
    directions = layer_directions(settings, name, options, supernet=supernet)
    return ModelSpec(
        name, directions, merge, options, data_of_run(settings, options) or {"info": asdict(data_info(settings, options))}
    )


def described(settings: Convert, description: Mapping) -> ModelSpec:
    """Return the network that the file itself describes; raise ConfigError where the settings ask for another one."""
    source = settings.source
    spec = ModelSpec.from_dict({key: value for key, value in description.items() if key != SEARCH}, source=source)
    asked: dict[str, Any] = {"name": spec.name} if settings.model is None else settings.model.options()
    if (name := asked.pop("name")) != spec.name:
        raise ConfigError(f"{source} holds a {spec.name}, not a {name}; leave model= out")
    if settings.img_size is not None:
        asked["img_size"] = side_or_sides(settings.img_size)
    for key, value in asked.items():
        held = spec.options.get(key, MISSING)
        if held != value:
            raise ConfigError(f"{source} was written with {key}={held}, not {value}; leave {key} out")
    if settings.class_names is not None:
        info = data_info(settings, {"num_classes": spec.options.get("num_classes", 1000), "img_size": (1, 1)})
        held = spec.data.get("info", {})
        spec = replace(spec, data=spec.data | {"info": held | {"class_names": list(info.class_names)}})
    return spec


def in_order(settings: Convert, model: Network, spec: ModelSpec) -> tuple[Network, ModelSpec]:
    """Return the network with its directions in the order of genotype=, where the file described its own.

    Raises CheckpointError where the genotype lists other directions.
    """
    if settings.genotype is None:
        return model, spec
    genotype = load_genotype(settings.genotype)
    check_depth(genotype, len(spec.directions), spec.name, where=settings.genotype)
    if genotype.directions == spec.directions:
        return model, spec
    for number, (asked, held) in enumerate(zip(genotype.directions, spec.directions, strict=True)):
        if set(asked) != set(held):
            names = ", ".join(map(label, held))
            raise CheckpointError(
                f"{settings.source}: layer {number} has the directions {names}, {settings.genotype} lists others"
            )
    ordered = replace(spec, directions=genotype.directions)
    moved = ordered.build()
    start_from(moved, Start(spec, model.state_dict(), settings.source))
    return moved, ordered


def side_or_sides(img_size: int | list[int] | None) -> list[int]:
    """Return [height, width] of img_size=; raise ConfigError for anything else."""
    img_size = DEFAULT_SIDE if img_size is None else img_size
    sides = [img_size, img_size] if isinstance(img_size, int) else list(img_size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ConfigError(f"img_size={img_size!r} is not a number of pixels or a list [height,width]")
    return sides


def layer_directions(settings: Convert, name: str, options: dict, *, supernet: bool) -> tuple[tuple[str, ...], ...]:
    """Return the directions of every layer: of genotype=, else the supernet's candidates or the model's own."""
    depth = model_depth(name, **{key: options[key] for key in ("depth", "depths") if key in options})
    if settings.genotype is not None:
        genotype = load_genotype(settings.genotype)
        check_depth(genotype, depth, name, where=settings.genotype)
        return genotype.directions
    if supernet:
        return load_search_space(CANDIDATES).layer_candidates(depth)
    if name in AMBIGUOUS:
        log.warning(
            "%s: a checkpoint does not say its directions; taken are the searched ones. For one trained with the released code"
            " as it stands, give genotype=%s",
            name,
            AMBIGUOUS[name],
        )
    with torch.device("meta"):
        model = create_model(name, **options)
    return tuple(m.directions for m in model.mixers())


def mixer_names(model: torch.nn.Module) -> list[str]:
    """Return the layer names of a model, such as "layers.0"."""
    return [name.removesuffix(".mixer") for name, m in model.named_modules() if isinstance(m, DirectionalMixer)]


def data_of_run(settings: Convert, options: dict) -> dict | None:
    """Return what the run that genotype= names says of its data; None where it says nothing or has other classes or channels."""
    folder = None if settings.genotype is None or settings.class_names is not None else user_path(settings.genotype)
    facts = read_facts(folder) if folder is not None and folder.is_dir() else None
    if facts is None or any(facts.info.get(key) != options.get(key) for key in ("num_classes", "in_chans")):
        return None
    return {"info": {**facts.info, "img_size": options["img_size"]}, "source": facts.data}


def data_info(settings: Convert, options: dict) -> DataInfo:
    """Return what the released networks were trained on: ImageNet, normalised per channel, or as many classes as there are."""
    classes, channels = options.get("num_classes", 1000), options.get("in_chans", 3)
    names = tuple(str(i) for i in range(classes))
    if settings.class_names is not None:
        path = Path(settings.class_names)
        if not path.is_file():
            raise ConfigError(f"class_names={str(path)!r}: no such file; expected a text file with one class name per line")
        text = read_text(path, where=f"class_names={settings.class_names}", error=ConfigError)
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
        if len(names) != classes:
            raise ConfigError(f"class_names={str(path)!r} lists {len(names)} names, the checkpoint has {classes} classes")
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
    return DataInfo("imagenet", classes, names, tuple(options["img_size"]), channels, mean, std)
