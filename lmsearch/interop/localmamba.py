"""The published LocalMamba's state dicts, in and out of our models, tensor for tensor.

Where the published code keeps one tensor per direction (LocalVim) or flattens directions into channels (LocalVMamba),
ours stack them; everything else is a change of name. Shapes: K directions, e inner channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor, nn

from lmsearch.errors import CheckpointError, ModelError
from lmsearch.interop.key_names import LOCALMAMBA, KeyNames, check_version
from lmsearch.models.local_vim import LocalVim
from lmsearch.models.local_vmamba import LocalVMamba
from lmsearch.scan.directions import label
from lmsearch.scan.grids import Grid, grid_text

ROPE = ("rope.freqs_cos", "rope.freqs_sin")
ROPE_SIDE = 14  # the grid that LocalVim's positions are rescaled to
ROPE_TOLERANCE = 1e-4  # float32 tables of one formula differ by about 1e-6; another formula or grid by far more.
# Half precision rounds them to its own eps.
ALPHAS = ".multi_scan.weights"  # a supernet's
KIND = {True: "a supernet's", False: "a derived net's"}
SHOWN = 6  # keys named per kind of mistake in an error
RELEASED = {  # what the released code's mixers always are, as options of ours
    "attention": "channel",
    "window_padding": "zeros",
    "expand": 2,
    "d_state": 16,
    "branch_norm": True,
    "partial_channels": 1,
}
RELEASED_DIRECTION = r"(h|v|w[1-9][0-9]*)(_flip)?"

# our name below a mixer -> published name, {i} the position of the direction in its layer
VIM_DIRECTION = {
    "conv_weight": "conv1d_{i}.weight",
    "conv_bias": "conv1d_{i}.bias",
    "x_proj_weight": "x_proj_{i}.weight",
    "dt_proj_weight": "dt_proj_{i}.weight",
    "dt_proj_bias": "dt_proj_{i}.bias",
    "A_log": "A_log_{i}",
    "D": "D_{i}",
}
VMAMBA_MIXER = {
    "dt_proj_weight": "dt_projs_weight",
    "dt_proj_bias": "dt_projs_bias",
    "A_log": "A_logs",
    "D": "Ds",
    "conv.weight": "conv2d.weight",
    "conv.bias": "conv2d.bias",
    "alphas": "multi_scan.weights",
}


@dataclass(frozen=True)
class Entry:
    """One tensor of ours and the published tensors that hold the same numbers, each of `shape`, in order.

    The published ones are `scale` times ours.
    """

    ours: str
    official: tuple[str, ...]
    shape: tuple[int, ...]
    scale: float = 1.0

    def to_official(self, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Split and reshape a tensor of ours."""
        parts = tensor.detach().cpu().reshape(len(self.official), *self.shape)
        parts = parts if self.scale == 1 else parts * self.scale
        return ((key, part.clone()) for key, part in zip(self.official, parts, strict=True))

    def to_ours(self, official: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Reshape and stack the published tensors."""
        stacked = torch.stack([official[key] for key in self.official]).reshape(shape)
        return stacked if self.scale == 1 else stacked / self.scale


def _vim_entry(key: str, tensor: Tensor) -> Entry:
    layer, mixer, name = key.partition(".mixer.")
    shape = tuple(tensor.shape)
    if name in VIM_DIRECTION:
        k, *rest = shape
        if name == "conv_weight":
            rest.insert(1, 1)  # (e, W) -> [e, 1, W]
        return Entry(key, tuple(layer + mixer + VIM_DIRECTION[name].format(i=i) for i in range(k)), tuple(rest))
    if name == "alphas":
        return Entry(key, (layer + mixer + "multi_scan.weights",), (*shape, 1, 1, 1))
    return Entry(key, (key,), shape)


def _vmamba_entry(key: str, tensor: Tensor) -> Entry:
    shape = tuple(tensor.shape)
    head, mixer, name = key.partition(".mixer.")
    if mixer:
        if name in ("A_log", "D"):
            shape = (shape[0] * shape[1], *shape[2:])  # directions flattened into channels
        elif name == "alphas":
            shape = (*shape, 1, 1, 1)
        elif name.startswith("attn."):
            name = "multi_scan." + name
        key_there = f"{head}.op.{VMAMBA_MIXER.get(name, name)}".replace("stages.", "layers.", 1)
    elif key.startswith("stages."):
        key_there = key.replace("stages.", "layers.", 1)
    elif key.startswith("patch_embed."):
        key_there = key.replace(".proj.", ".0.").replace(".norm.", ".2.")
    else:
        key_there = "classifier." + key  # norm and head
    return Entry(key, (key_there,), shape)


def layout(model: nn.Module, names: KeyNames = LOCALMAMBA) -> list[Entry]:
    """Return how every tensor of the model's state dict is stored in a published one.

    Raises ModelError for another architecture, and where a layer has more directions than there are `names` for.
    """
    most = max(len(mixer.directions) for mixer in released(model).mixers())
    if names.order is not None and most > len(names.order):
        raise ModelError(f"{names.project} has names for {len(names.order)} directions of a layer, this network has {most}")
    vim = isinstance(model, LocalVim)
    doubled = names.halved and isinstance(model, LocalVim) and model.cls_token is not None
    entries = [(_vim_entry if vim else _vmamba_entry)(key, tensor) for key, tensor in model.state_dict().items()]
    return [
        replace(
            entry,
            official=tuple(map(names.rename, entry.official)),
            scale=2.0 if doubled and entry.ours.endswith("mixer.out_proj.weight") else 1.0,
        )
        for entry in entries
    ]


def released(model: nn.Module) -> LocalVim | LocalVMamba:
    """Return a network of an architecture that was published; raise ModelError for another one."""
    if isinstance(model, LocalVim | LocalVMamba):
        return model
    raise ModelError(f"{type(model).__name__} has no published LocalMamba counterpart; accepted: LocalVim, LocalVMamba")


def rope_buffers(dim: int, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return the cos and sin tables (H * W, dim) that a published LocalVim stores, computed in float32 as it does."""
    half = dim // 2
    freqs = 1.0 / 10000 ** (torch.arange(0, half, 2).float() / half)
    rows, columns = (torch.outer(torch.arange(side) / side * ROPE_SIDE, freqs).repeat_interleave(2, dim=1) for side in grid)
    angles = torch.cat([rows[:, None].expand(*grid, half), columns[None].expand(*grid, half)], dim=-1).flatten(0, 1)
    return angles.cos(), angles.sin()


def _rope(model: nn.Module) -> dict[str, Tensor]:
    if not (isinstance(model, LocalVim) and model.use_rope):
        return {}
    return dict(zip(ROPE, rope_buffers(model.num_features, model.grid), strict=True))


def to_official_state_dict(model: nn.Module, names: KeyNames = LOCALMAMBA) -> dict[str, Tensor]:
    """Return a copy of the model's weights on the CPU under the published key names and shapes, rotary tables included."""
    ours = model.state_dict()
    official = {key: part for entry in layout(model, names) for key, part in entry.to_official(ours[entry.ours])}
    wide = torch.promote_types(next(model.parameters()).dtype, torch.float32)
    return official | {key: table.to(wide) for key, table in _rope(model).items()}


def load_official_state_dict(model: nn.Module, state_dict: Mapping[str, Tensor], names: KeyNames = LOCALMAMBA) -> None:
    """Fill a LocalVim or LocalVMamba of ours, derived net or supernet, from a state dict with the published key names.

    `names` are those of another project whose networks ours can be. Raises one CheckpointError that names the missing,
    unexpected and mis-shaped keys, or the version that is not read; then nothing has been loaded. LocalVim's rotary tables are
    no weights of ours: they may be absent, and are compared where present. To train with another number of classes, load
    first and call `reset_classifier` afterwards.
    """
    check_version(names, state_dict)
    entries, grid = layout(model, names), released(model).grid
    tables = _rope(model)
    expected = {key: entry.shape for entry in entries for key in entry.official}
    expected |= {key: tuple(table.shape) for key, table in tables.items()}
    _check_keys(model, state_dict, expected, optional=tables.keys())
    for key in tables.keys() & state_dict.keys():
        stored = state_dict[key].cpu()
        error = (stored.double() - tables[key]).abs().max().item()
        if not error <= max(ROPE_TOLERANCE, torch.finfo(stored.dtype).eps if stored.is_floating_point() else 0.0):
            raise CheckpointError(
                f"{key} differs by {error:.3g} from this model's rotary table (grid {grid_text(grid)});"
                " the checkpoint's embedding was built for another grid or formula"
            )
    ours = model.state_dict()
    with torch.no_grad():
        for entry in entries:
            ours[entry.ours].copy_(entry.to_ours(state_dict, ours[entry.ours].shape))


def _check_keys(model: nn.Module, given: Mapping[str, Tensor], expected: dict[str, tuple[int, ...]], *, optional) -> None:
    missing = [key for key in expected if key not in given and key not in optional]
    unexpected = [key for key in given if key not in expected]
    misshaped = []
    for key in expected.keys() & given.keys():
        if not isinstance(given[key], Tensor):
            misshaped.append(f"{key} is a {type(given[key]).__name__}, not a tensor")
        elif tuple(given[key].shape) != expected[key]:
            misshaped.append(f"{key} {list(given[key].shape)} instead of {list(expected[key])}")
    faults = [("missing", missing), ("unexpected", unexpected), ("mis-shaped", sorted(misshaped))]
    if text := "; ".join(f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in faults if keys):
        searched, search = (any(key.endswith(ALPHAS) for key in keys) for keys in (given, expected))
        hint = "" if searched == search else f" (the checkpoint is {KIND[searched]}, the model {KIND[search]})"
        raise CheckpointError(f"the checkpoint does not fit this {type(model).__name__}, nothing was loaded{hint}: {text}")


def _some(keys: list[str]) -> str:
    shown = ", ".join(islice(keys, SHOWN))
    return shown if len(keys) <= SHOWN else f"{shown}, ... ({len(keys) - SHOWN} more)"


def beyond_released(model: nn.Module, names: KeyNames = LOCALMAMBA) -> list[str]:
    """Return what of a network the released code computes otherwise or not at all, such as "stem=conv"."""
    model = released(model)
    own = model.mixers()[0].options
    always = RELEASED | {"attention": names.attention}
    found = [f"{name}={getattr(own, name)}" for name, value in always.items() if getattr(own, name) != value]
    if isinstance(model, LocalVim):
        pool = "avg" if model.cls_token is None else "token"
        found += ["stem=conv"] if len(list(model.patch_embed.stem.parameters())) else []
        found += ["norm=layer"] if isinstance(model.norm_f, nn.LayerNorm) else []
        found += ["rope_residual=false"] if model.use_rope and not model.rope_residual else []
    else:
        pool = "avg"
    found += [f"global_pool={model.global_pool!r}"] if model.global_pool != pool else []
    if names.order is not None:
        alike = all(mixer.directions == names.order for mixer in model.mixers())
        return found if alike else [*found, f"directions, which are not {', '.join(names.order)}"]
    directions = {d for m in model.mixers() for d in m.directions}
    other = sorted(label(d) for d in directions if not re.fullmatch(RELEASED_DIRECTION, d))
    return found + ([f"directions {', '.join(other)}"] if other else [])
