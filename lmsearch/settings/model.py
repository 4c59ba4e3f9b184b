"""The shipped models and the keys that set them otherwise: the presets model=..., which differ by family and name only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmsearch.settings.fields import Ints, key
from lmsearch.settings.groups import Group, keys_of

TRAINING = ("grad_checkpointing", "compile")  # keys of how training computes a model, which are no options of it


@dataclass(frozen=True, kw_only=True)
class Backbone(Group):
    """Keys of both families; null is always the model's own."""

    name: str = key("name of the model")
    grad_checkpointing: bool = key(
        "compute the inside of each layer twice instead of keeping it: less memory, more time",
        counts=False,
    )
    compile: bool = key("let torch.compile make a faster program of each layer's inside for training", counts=False)
    patch_size: int | None = key("side of a patch", unit="pixels", least=1, null="the model's own", absent=True)
    d_state: int | None = key("states of each channel's scan", least=1, absent=True)
    drop_path_rate: float | None = key(
        "probability of dropping a layer's branch at the last layer", least=0.0, most=0.99, absent=True
    )
    attention: str | None = key("channel | spatial_channel | none", absent=True)
    window_padding: str | None = key("windows at the edge: none (partial edge windows) | zeros (LocalMamba's pads)", absent=True)
    init: str | None = key("how weights begin: default | released (LocalMamba's code) | fan_in (narrow networks)", absent=True)
    global_pool: str | None = key(
        'tokens to one vector: avg | token (local_vim) | "" (an output per token, as targets per token need)', absent=True
    )

    def options(self) -> dict[str, Any]:
        """Return the keys that are set, by name; how training computes a model is no option of it."""
        return {name: value for name, value in super().options().items() if name not in TRAINING}


@dataclass(frozen=True, kw_only=True)
class LocalVim(Backbone):
    """Keys of one stage of layers."""

    embed_dim: int | None = key("channels of a token", least=1, absent=True)
    depth: int | None = key("number of layers", least=1, absent=True)
    stem: str | None = key("patch | conv (a 3x3 convolution before the patches)", absent=True)
    use_rope: bool | None = key("rotary positions", absent=True)
    rope_residual: bool | None = key("rotate the residual as well", absent=True)
    middle_cls_token: bool | None = key("a class token in the middle of the sequence", absent=True)


@dataclass(frozen=True, kw_only=True)
class LocalVMamba(Backbone):
    """Keys of several stages of layers."""

    dims: Ints | None = key("channels of a token per stage, doubling", absent=True)
    depths: Ints | None = key("layers per stage", absent=True)


@dataclass(frozen=True, kw_only=True)
class Model(LocalVim, LocalVMamba):
    """The model of a task: of either family, and with what some data bring besides."""

    branch_norm: bool = key("a supernet normalises its branches before mixing them; false is for ablations", absent=True)


MODELS: dict[str, type[Backbone]] = {
    "local_vim": LocalVim,
    "local_vim_nano": LocalVim,
    "local_vim_small": LocalVim,
    "local_vim_tiny": LocalVim,
    "local_vim_tiny_middle_cls_token": LocalVim,
    "local_vim_tiny_search": LocalVim,
    "local_vmamba": LocalVMamba,
    "local_vmamba_nano": LocalVMamba,
    "local_vmamba_small": LocalVMamba,
    "local_vmamba_small_search": LocalVMamba,
    "local_vmamba_tiny": LocalVMamba,
    "local_vmamba_tiny_search": LocalVMamba,
    "vim_small": LocalVim,
    "vim_tiny": LocalVim,
    "vmamba_small": LocalVMamba,
    "vmamba_tiny": LocalVMamba,
}


def model_preset(name: str) -> dict[str, Any]:
    """Return the keys of model=<name>: its name, and nothing set otherwise."""
    return dict.fromkeys(keys_of(MODELS[name])) | {"name": name} | dict.fromkeys(TRAINING, False)
