"""How Vim and VMamba name the tensors that LocalMamba's released code, which grew out of theirs, names otherwise.

Their first published versions are our networks without attention: Vim scans rows both ways, VMamba rows and columns. VMamba's
has two sets of names, the second since the end of January 2024. What later versions have beyond that is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from lmsearch.errors import CheckpointError

PAIR = {"0": "", "1": "_b"}  # Vim's endings of the first and the second direction
MIDDLE = {"middle_cls_token": True, "use_rope": False, "rope_residual": False}  # options of Vim's second version


def localmamba_key(key: str) -> str:
    """A name of LocalMamba's is its own."""
    return key


def vim_key(key: str) -> str:
    """Return Vim's name of a tensor: directions are told by _b, and of A_log in the middle."""
    found = re.fullmatch(r"(layers\.\d+\.mixer\.)(conv1d|x_proj|dt_proj|A_log|D)_([01])(\..+)?", key)
    if found is None:
        return key
    before, name, number, after = found.groups()
    return before + ("A_b_log" if (name, number) == ("A_log", "1") else name + PAIR[number]) + (after or "")


def vmamba_key(key: str) -> str:
    """Return the name of a tensor in VMamba's first version."""
    key = key.replace("patch_embed.0.", "patch_embed.proj.").replace("patch_embed.2.", "patch_embed.norm.")
    key = re.sub(r"^(layers\.\d+\.blocks\.\d+\.)norm\.", r"\1ln_1.", key)
    return key.replace(".op.", ".self_attention.").removeprefix("classifier.")


@dataclass(frozen=True)
class Refusal:
    """A key that only another version has, and what that version is."""

    pattern: str
    version: str


@dataclass(frozen=True)
class KeyNames:
    """The names of one project: `rename` makes them of LocalMamba's. `attention` is what its mixers have.

    `order`: the directions of every layer, and the most that there are names for; None: any.
    `halved`: a network with a class token takes half of the merged branches.
    """

    project: str
    rename: Callable[[str], str]
    attention: str
    order: tuple[str, ...] | None = None
    halved: bool = False
    refused: Sequence[Refusal] = ()


LOCALMAMBA = KeyNames("LocalMamba", localmamba_key, attention="channel")
VIM = KeyNames(
    "Vim",
    vim_key,
    attention="none",
    order=("h", "h_flip"),
    halved=True,
    refused=(
        Refusal(r"cls_token_(head|tail)", "Vim with two class tokens"),
        Refusal(r"layers\.\d+\.mixer\.gamma", "Vim with a learned scale of every layer"),
    ),
)
WITH_MLP = Refusal(r"layers\.\d+\.blocks\.\d+\.(mlp|norm2)\..*", "a later VMamba, with an MLP in every block and no gate")
TWO_CONVOLUTIONS = Refusal(r"patch_embed\.[3-9]\..*", "a later VMamba, with two convolutions before the first stage")
VMAMBA = KeyNames(
    "VMamba",
    vmamba_key,
    attention="none",
    order=("h", "v", "h_flip", "v_flip"),
    refused=(
        WITH_MLP,
        Refusal(r"layers\.\d+\.blocks\.\d+\.op\..*", "a later VMamba, whose blocks have other names and options"),
        TWO_CONVOLUTIONS,
    ),
)
VMAMBA_RENAMED = replace(VMAMBA, rename=localmamba_key, refused=(WITH_MLP, TWO_CONVOLUTIONS))  # as LocalMamba found it
BASELINES = {"vim_tiny": VIM, "vim_small": VIM, "vmamba_tiny": VMAMBA, "vmamba_small": VMAMBA}  # by model name


def names_for(model: str, weights: Mapping[str, Tensor] | None = None) -> KeyNames:
    """Return the names that released checkpoints of a model use, where there are several those of these `weights`."""
    names = BASELINES.get(model, LOCALMAMBA)
    return VMAMBA_RENAMED if names is VMAMBA and weights is not None and is_renamed(weights) else names


def is_renamed(weights: Mapping[str, Tensor]) -> bool:
    """Tell whether weights are VMamba's first network under its later names: all blocks have a gate (c to 4c) and no MLP."""
    entries = [weight for key, weight in weights.items() if key.endswith(".op.in_proj.weight")]
    gated = bool(entries) and all(weight.dim() == 2 and weight.shape[0] == 4 * weight.shape[1] for weight in entries)
    return gated and not any(re.fullmatch(WITH_MLP.pattern, key) for key in weights)


def check_version(names: KeyNames, weights: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError, naming the version, for weights of one that our networks do not compute."""
    for refusal in names.refused:
        if found := next((key for key in weights if re.fullmatch(refusal.pattern, key)), None):
            raise CheckpointError(f"{found} is of {refusal.version}; {names.project}'s first version is read")
    if names is not VIM or "cls_token" not in weights:
        return
    if "rope.freqs_cos" in weights:
        version = "Vim with a class token before the patches and rotary positions"
        raise CheckpointError(f"cls_token beside rope.freqs_cos is of {version}; read are Vim without or with one in the middle")
    patches = weights["pos_embed"].shape[1] - 1 if "pos_embed" in weights and weights["pos_embed"].dim() == 3 else 0
    if patches % 2:
        raise CheckpointError(f"pos_embed is of {patches} patches, an odd number, in the middle of which ours has another token")


def options_told(names: KeyNames, weights: Mapping[str, Tensor]) -> dict[str, bool]:
    """Return the options of a network that its weights tell: of Vim's second version those of a class token in the middle."""
    return dict(MIDDLE) if names is VIM and "cls_token" in weights else {}
