"""What trained networks look at, and what directions do in a supernet, for `lmsearch show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lmsearch.data import DataInfo, build_loaders, search_loaders, spread
from lmsearch.data.predict import check_readable, read_tensor
from lmsearch.engine.checkpoint import ModelSpec, load_checkpoint, load_model
from lmsearch.engine.devices import device_named
from lmsearch.engine.stored import needed
from lmsearch.engine.train import Precision
from lmsearch.errors import CheckpointError, ConfigError, did_you_mean
from lmsearch.figures.heat import attention_figure, receptive_figure, saliency_figure
from lmsearch.figures.importance import importance_figure
from lmsearch.genotype import load_genotype
from lmsearch.insight.attention import call_of, mixer_named, mixers_of, scan_attention
from lmsearch.insight.gradients import receptive_field, saliency
from lmsearch.insight.importance import ablation_path, direction_importance
from lmsearch.models.backbone import Backbone
from lmsearch.reading import is_folder, user_path
from lmsearch.report.text import map_lines, spark
from lmsearch.scan.directions import label
from lmsearch.scan.grids import grid_text
from lmsearch.search.supernet.masking import OnBatches
from lmsearch.search.supernet.network import named_mixers
from lmsearch.search_space import load_search_space
from lmsearch.settings.looking import Show
from lmsearch.tasks.parts.build import build_objective
from lmsearch.tasks.parts.candidates import hand_made_choice
from lmsearch.tasks.parts.drawn import Drawn, Grid, given, lines, pair
from lmsearch.tasks.parts.samples import check_held_out
from lmsearch.tasks.parts.trained import load_trained, own_source

CPU = Precision(device_named("cpu"))


def loaded(settings: Show) -> tuple[Backbone, ModelSpec, DataInfo, str]:
    """Return the network that a key names, what it is, its data, and its name; raise CheckpointError for one without layers."""
    source = given(settings, "checkpoint", "run_dir")
    model, spec, info = load_trained(source, CPU, backend="auto")
    if not isinstance(model, Backbone):
        raise CheckpointError(f"{source}: what={settings.what} takes networks that classify images, not {type(model).__name__}")
    return model, spec, info, source


def images_for(settings: Show, spec: ModelSpec, info: DataInfo, source: str, *, number: int) -> Tensor:
    """Return image= as the network takes it, or the first validation images of its data: (B, C, h, w)."""
    if settings.image is not None:
        check_readable(info)
        return read_tensor(user_path(settings.image), info).unsqueeze(0)
    loaders = build_loaders(own_source(spec, source), batch_size=number, seed=0, drop_last=False)
    return next(iter(loaders.val)).inputs[:number]


def shown_image(image: Tensor, info: DataInfo) -> np.ndarray:
    """Return a normalised image (C, h, w) as people see it: (h, w) or (h, w, 3) of [0, 1]."""
    pixels = image * torch.tensor(info.std)[:, None, None] + torch.tensor(info.mean)[:, None, None]
    return (pixels[0] if len(pixels) != 3 else pixels.permute(1, 2, 0)).clamp(0, 1).numpy()


def show_receptive(settings: Show) -> Drawn:
    """What one token of a level sees of the image."""
    model, spec, info, source = loaded(settings)
    images = images_for(settings, spec, info, source, number=settings.samples)
    level = level_named(model, settings.layer)
    field, token = receptive_field(model, images, level=level, token=pair("token", settings.token, least=0))
    grid = level_grid(model, images, level)
    name = f"token [{token[0]},{token[1]}] of {model.feature_info[level]['module']}, {len(images)} images"
    return Drawn(
        lambda: receptive_figure(field, token=token, grid=grid, title=name),
        lines([f"{source}: what {name} sees (@: most)", *map_lines(field)]),
    )


def level_named(model: Backbone, layer: str) -> int:
    """Return the number of a level, by its module or number; raise ConfigError where there is none."""
    names = [str(level["module"]) for level in model.feature_info]
    if layer.removeprefix("-").isdecimal() and -len(names) <= int(layer) < len(names):
        return int(layer)
    if layer not in names:
        raise ConfigError(f"layer={layer!r} is no level of this network{did_you_mean(layer, names)}, or 0 to {len(names) - 1}")
    return names.index(layer)


@torch.no_grad()
def level_grid(model: Backbone, images: Tensor, level: int) -> Grid:
    """Return the grid of a level's feature map."""
    (features,) = cast(list[Tensor], model.forward_intermediates(images[:1], indices=[level], intermediates_only=True))
    return features.shape[2], features.shape[3]


def show_attention(settings: Show) -> Drawn:
    """What the directions of one layer attend to."""
    model, spec, info, source = loaded(settings)
    images = images_for(settings, spec, info, source, number=1)
    mixer = mixer_named(model, settings.layer)
    name = next(name for name, own in mixers_of(model).items() if own is mixer)
    call = call_of(model, mixer, images)
    grid = (call.grid[0], call.grid[1])
    row, column = pair("token", settings.token, least=0) or (grid[0] // 2, grid[1] // 2)
    if row >= grid[0] or column >= grid[1]:
        raise ConfigError(f"token=[{row},{column}] is outside the grid of {grid_text(grid)} tokens of {name}")
    found = {label(direction): matrix for direction, matrix in scan_attention(mixer, call).items()}
    place = row * grid[1] + column
    told = [f"{source}: what token [{row},{column}] of {name} takes of the others, on {grid_text(grid)} tokens (@: most)"]
    for direction, matrix in found.items():
        told += [direction, *map_lines(matrix[place].reshape(grid))]
    return Drawn(lambda: attention_figure(found, grid, token=place, title=f"{name} of {source}"), lines(told))


def show_saliency(settings: Show) -> Drawn:
    """What the pixels of an image add to the network's answer."""
    model, spec, info, source = loaded(settings)
    if not info.targets.classes:
        raise ConfigError(f"what=saliency asks for a network with classes; {source} has {info.targets.told}")
    image = images_for(settings, spec, info, source, number=1)[0]
    values, target = saliency(model, image)
    title = f"answer: {info.class_names[target]}"
    return Drawn(
        lambda: saliency_figure(shown_image(image, info), values, title=title),
        lines([f"{source}: {title}; what pixels add or take away (@: most)", *map_lines(values)]),
    )


def show_importance(settings: Show) -> Drawn:
    """What each direction does in the supernet of a search, and the way from hand-made directions to the searched ones."""
    source = given(settings, "run_dir", "checkpoint")
    supernet, evaluate = stored_supernet(source, settings.samples)
    mixers = named_mixers(supernet)
    folder = Path(user_path(source))
    genotype = load_genotype(folder if is_folder(folder) else folder.parent)
    searched = {layer: choice.directions for layer, choice in zip(mixers, genotype.layers, strict=True)}
    by_hand = hand_made_choice(load_search_space(settings.search_space), settings.hand_made, [len(d) for d in searched.values()])
    start = dict(zip(mixers, by_hand, strict=True))
    for layer, names in start.items():
        if lacking := [name for name in names if name not in mixers[layer].directions]:
            known = ", ".join(map(label, mixers[layer].directions))
            raise ConfigError(f"hand_made: {lacking[0]} is no candidate of {layer} of {source}; its candidates: {known}")
    values = {
        layer: {label(d): value for d, value in mine.items()}
        for layer, mine in direction_importance(supernet, evaluate, searched).items()
    }
    kept = {layer: [label(d) for d in names] for layer, names in searched.items()}
    path = ablation_path(supernet, evaluate, start, searched)
    return Drawn(lambda: importance_figure(values, kept, path, title=source), lines(told_importance(source, values, kept, path)))


def told_importance(
    source: str, values: Mapping[str, Mapping[str, float]], kept: Mapping[str, Sequence[str]], path: Sequence[float]
) -> list[str]:
    """Return the lines of what directions do in a supernet."""
    told = [f"{source}: held-out loss that each direction saves (*: kept)"]
    for layer, mine in values.items():
        told.append(f"{layer}: " + "  ".join(f"{name}{'*' * (name in kept[layer])} {value:+.4f}" for name, value in mine.items()))
    bars = spark(path, least=min(path), most=max(path))
    return [*told, f"held-out loss, hand-made {path[0]:.4f} to searched {path[-1]:.4f}, layer by layer: {bars}"]


def stored_supernet(source: str, samples: int) -> tuple[nn.Module, OnBatches]:
    """Return the supernet that a search has trained, and what scores it on some of the samples that it held out."""
    path = Path(user_path(source))
    state: dict[str, Any] = load_checkpoint(path)
    spec = ModelSpec.from_dict(state.get("spec"), source=source)
    if state.get("holdout") is None:
        raise CheckpointError(
            f"{source}: not of a search, or of one that held nothing out; expected the run of `lmsearch search`"
        )
    weights, share = needed(state, "model", source=source), needed(state, "holdout", source=source)
    data = own_source(spec, source)
    check_held_out(state, data, where=source)
    loaders = search_loaders(data, holdout=share, batch_size=samples, seed=needed(state, "seed", source=source), drop_last=False)
    supernet = load_model(spec, weights, source=source).eval()
    return supernet, OnBatches([spread(loaders.holdout, samples)], build_objective(data.info, state.get("metric")), CPU)
