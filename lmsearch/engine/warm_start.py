"""Starting a network from another one's weights: what belongs to a scan direction or a class is found by its name.

Shapes: K directions of a layer, C classes; a mixer's PER_DIRECTION tensors are (K, ...), the head's (C, ...).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmsearch.engine.checkpoint import ModelSpec, data_of, load_weights
from lmsearch.errors import CheckpointError
from lmsearch.models import DirectionalMixer
from lmsearch.models.dense import DenseNet
from lmsearch.models.dense.net import BACKBONE
from lmsearch.models.layers import resize_positions
from lmsearch.models.local_vim import LocalVim
from lmsearch.scan.directions import label
from lmsearch.scan.grids import middle
from lmsearch.words import first_of

HEAD = ("head.weight", "head.bias")  # of a classifier of images
PARTS = ("head.", "neck.")  # what a dense network has beside its backbone
SHOWN = 6  # layers or classes named in one line
Rows = list[tuple[int, int]]  # (row here, row there)


@dataclass(frozen=True)
class Start:
    """Another network, as `read_model` returns it, to start from; `source` names it in lines and errors."""

    spec: ModelSpec
    weights: Mapping[str, Tensor]
    source: str = "init_from"

    def without_values(self) -> Start:
        """Return the same start on the meta device but for its alphas, to try there, without memory, whether it fits a model."""
        shapes = {name: t if name.endswith(".alphas") else t.to("meta") for name, t in self.weights.items()}
        return Start(self.spec, shapes, self.source)

    def network(self) -> nn.Module:
        """Return the other network on the meta device, without values."""
        with torch.device("meta"):
            return self.spec.build()


def start_from(model: nn.Module, start: Start, *, classes: Sequence[str] = (), strict: bool = False) -> list[str]:
    """Fill `model` from `start` and return one line for each kind of thing that did not come along as it was.

    Directions that the other network lacks keep their fresh weights, as do classes; positions are resized to the model's
    grid. Weights of a supernet fill a derived net without its alphas, and the reverse leaves the alphas fresh. The backbone
    of a network with a dense head and a classifier fill each other; another head starts fresh.
    Raises CheckpointError for another architecture, and with `strict` where a direction would start fresh or a supernet
    meets a derived net; then nothing was loaded.
    """
    there = start.network()
    own, theirs = model.state_dict(), mixers_by_name(there)
    weights = {renamed(name, there, model): value for name, value in start.weights.items()}
    _resize_positions(weights, own, there, model)
    named = {renamed(name, there, model): mixer for name, mixer in theirs.items()}
    lines = _match_directions(weights, own, start.source, named, mixers_by_name(model))
    if strict and lines:
        raise CheckpointError(f"{'; '.join(lines)}; init_strict=true refuses this")
    lines += _match_heads(weights, own, start, there, model, classes)
    load_weights(model, weights, source=start.source)
    return lines


def mixers_by_name(module: nn.Module) -> dict[str, DirectionalMixer]:
    """Return every mixer by its full name, such as "layers.0.mixer", in forward order."""
    return {name: m for name, m in module.named_modules() if isinstance(m, DirectionalMixer)}


def renamed(name: str, there: nn.Module, model: nn.Module) -> str:
    """Return the name that a tensor or module of `there` has in `model`, where one of them is a backbone with a dense head."""
    if isinstance(there, DenseNet) == isinstance(model, DenseNet):
        return name
    return f"{BACKBONE}{name}" if isinstance(model, DenseNet) else name.removeprefix(BACKBONE)


def _resize_positions(weights: dict[str, Tensor], own: Mapping[str, Tensor], there: nn.Module, model: nn.Module) -> None:
    """Resize absolute positions that were learned on another grid, which may have as many tokens (4x16 and 16x4)."""
    key = f"{BACKBONE}pos_embed" if isinstance(model, DenseNet) else "pos_embed"
    positions = weights.get(key)
    if positions is None or key not in own:
        return
    old, new = (net.backbone if isinstance(net, DenseNet) else net for net in (there, model))
    if isinstance(old, LocalVim) and isinstance(new, LocalVim):  # no others have positions
        index = None if old.cls_token is None else middle(old.grid)
        weights[key] = resize_positions(positions, old.grid, new.grid, cls_index=index)


def _match_directions(
    weights: dict[str, Tensor],
    own: Mapping[str, Tensor],
    source: str,
    theirs: Mapping[str, DirectionalMixer],
    ours: Mapping[str, DirectionalMixer],
) -> list[str]:
    """Put the rows of every direction where `ours` has it; return what is fresh, left out or was dropped by a search."""
    fresh, dropped, given = [], [], dict(weights)
    for layer, mixer in ours.items():
        if layer not in theirs:
            continue  # another architecture, which load_weights names
        names = theirs[layer].directions
        rows = [(here, names.index(name)) for here, name in enumerate(mixer.directions) if name in names]
        for part in mixer.PER_DIRECTION:
            _move_rows(weights, own, f"{layer}.{part}", rows, listed=len(names), source=source)
        if lacking := [name for name in mixer.directions if name not in names]:
            fresh.append(f"{_layer(layer)}: {', '.join(_lacking(name, names) for name in lacking)}")
        alphas = given.get(f"{layer}.alphas")
        if alphas is not None:
            gone = [label(mixer.directions[here]) for here, there in rows if torch.isneginf(alphas[there])]
            dropped += [f"{_layer(layer)}: {', '.join(gone)}"] if gone else []
    lines = []
    if fresh:
        lines.append(f"{source} lacks directions, which start fresh: {_some(fresh)}")
    if dropped:
        lines.append(f"{source} dropped directions during its search, which trained until then: {_some(dropped)}")
    return lines + _match_alphas(weights, own, source)


def _move_rows(weights: dict[str, Tensor], own: Mapping[str, Tensor], key: str, rows: Rows, *, listed: int, source: str) -> None:
    """Replace weights[key] by the model's own tensor with `rows` filled in; another width is left for load_weights to name."""
    if key not in weights or key not in own:
        return
    if len(weights[key]) != listed:
        raise CheckpointError(f"{source}: {key} holds {len(weights[key])} rows, its description lists {listed}")
    if weights[key].shape[1:] != own[key].shape[1:]:
        return
    filled = own[key].clone()
    for here, there in rows:
        filled[here] = weights[key][there]
    weights[key] = filled


def _match_alphas(weights: dict[str, Tensor], own: Mapping[str, Tensor], source: str) -> list[str]:
    """Leave out a supernet's alphas where the model has none, keep fresh ones where the other network has none."""
    surplus = [key for key in weights if key.endswith(".alphas") and key not in own]
    lacking = [key for key in own if key.endswith(".alphas") and key not in weights]
    for key in surplus:
        del weights[key]
    weights |= {key: own[key] for key in lacking}
    if surplus:
        return [f"{source} is a supernet: its alphas are left out, and its branches, now summed, weigh otherwise"]
    return [f"{source} is a derived net: the alphas start fresh"] if lacking else []


def _match_heads(
    weights: dict[str, Tensor],
    own: Mapping[str, Tensor],
    start: Start,
    there: nn.Module,
    model: nn.Module,
    classes: Sequence[str],
) -> list[str]:
    """Take the other network's head where it is of the same kind, class by class where that can be told; else a fresh one."""
    theirs, ours = (net if isinstance(net, DenseNet) else None for net in (there, model))
    if theirs is None and ours is None:
        return _match_classes(weights, own, start, classes, HEAD)
    if theirs is not None and ours is not None and theirs.same_parts(ours):
        if ours.kind.classifier is not None:
            heads = tuple(f"head.{ours.kind.classifier}.{part}" for part in ("weight", "bias"))
            return _match_classes(weights, own, start, classes, heads, part="the head's last layer")
        return _match_whole_head(weights, own, start, classes)
    for name in [name for name in weights if name.startswith((*PARTS, f"{BACKBONE}head."))]:
        del weights[name]
    weights |= {name: value for name, value in own.items() if name.startswith(PARTS)}
    kinds = ["classifies images" if net is None else f"has head={net.kind.name}" for net in (theirs, ours)]
    why = kinds[0] if kinds[0] != kinds[1] else "has its head on other levels"
    return [f"{start.source} {why}: the head starts fresh" + (", with the maps that it sees" if ours is not None else "")]


def _match_whole_head(weights: dict[str, Tensor], own: Mapping[str, Tensor], start: Start, classes: Sequence[str]) -> list[str]:
    """Take a head in which classes are no rows, where they are the same in the same order, or all of other names."""
    names, heads = _class_names(start), [name for name in own if name.startswith("head.")]
    fits = all(name in weights and weights[name].shape == own[name].shape for name in heads)
    if fits and (not names or not classes or list(names) == list(classes)):
        return []
    if fits and not set(names) & set(classes):
        return [f"{start.source} has other class names, taken in their order"]
    weights |= {name: own[name] for name in heads}
    return [f"{start.source} has other classes: the head starts fresh"]


def _class_names(start: Start) -> list[str]:
    """Return the names of the other network's classes, none where it is not described."""
    return list(data_of(start.spec, source=start.source).class_names) if start.spec.data.get("info") is not None else []


def _match_classes(
    weights: dict[str, Tensor],
    own: Mapping[str, Tensor],
    start: Start,
    classes: Sequence[str],
    heads: Sequence[str],
    part: str = "the head",
) -> list[str]:
    """Put the rows of `heads` where the model has the class; without a name in common they count by position."""
    names = _class_names(start)
    heads = [key for key in heads if key in own]
    if not heads or any(key not in weights or weights[key].shape[1:] != own[key].shape[1:] for key in heads):
        weights |= {key: own[key] for key in heads}
        return [f"{start.source}: {part} starts fresh"] if heads else []
    known = len(names) == len(weights[heads[0]]) and len(classes) == len(own[heads[0]])
    common = set(names) & set(classes) if known else set()
    if common:
        rows = [(here, names.index(name)) for here, name in enumerate(classes) if name in common]
        for key in heads:
            _move_rows(weights, own, key, rows, listed=len(names), source=start.source)
        lacking = [name for name in classes if name not in common]
        return [f"{start.source} lacks classes, which start fresh: {_some(lacking)}"] if lacking else []
    if len(weights[heads[0]]) == len(own[heads[0]]):
        return [f"{start.source} has other class names, taken in their order"] if known else []
    weights |= {key: own[key] for key in heads}
    return [f"{start.source} has other classes: {part} starts fresh"]


def _lacking(name: str, names: Sequence[str]) -> str:
    """Return a direction's label; where the other network has one of that label, its table must be another."""
    shown = label(name)
    return f"{shown} (another table)" if shown in map(label, names) else shown


def _layer(mixer: str) -> str:
    """Return the layer's name of a mixer's."""
    return mixer.removesuffix(".mixer")


def _some(items: Sequence[str]) -> str:
    """Return the first items in one line, and how many more there are."""
    return first_of(items, SHOWN, between="; ")
