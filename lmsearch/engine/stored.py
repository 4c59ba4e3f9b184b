"""What the entries of a checkpoint.pt are, checked as it is read: files of version 0.1.0 carry no digest that would tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmsearch.errors import CheckpointError, short
from lmsearch.paths import BESIDE, TEXTS

FRACTIONS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)  # numbers that weights may be stored as


def check_entries(state: Mapping[str, Any], *, source: str) -> None:
    """Raise CheckpointError, naming `source`, where an entry that a checkpoint knows is of another kind. None counts as unset."""
    for name, (right, expected) in KINDS.items():
        if state.get(name) is not None and not right(state[name]):
            raise CheckpointError(f"{source}: {name} is {short(state[name])}; expected {expected}")


def needed(state: Mapping[str, Any], name: str, *, source: str) -> Any:
    """Return an entry that must be there; raise CheckpointError, naming `source`, where it is not."""
    if state.get(name) is None:
        raise CheckpointError(f"{source}: not a whole checkpoint: {name} is missing")
    return state[name]


def named_otherwise(path: Path) -> str:
    """Return what a file is called that is no checkpoint, and what is expected; "" where its name tells nothing."""
    if path.suffix in (*TEXTS, *BESIDE):
        return f"a {path.suffix} file holds no weights; expected a run directory, or its model.safetensors or checkpoint.pt"
    if path.suffix == ".safetensors":
        return "holds a trained network, not the state of a run; expected a checkpoint.pt or a run directory that holds one"
    return ""


def check_tensor(tensor: Tensor, *, source: str) -> None:
    """Raise CheckpointError where a stored tensor is not just its values: sparse, quantized, or without any."""
    plain = tensor.layout is torch.strided and not tensor.is_meta and not tensor.is_quantized
    if not plain or tensor.nbytes > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{source}: a tensor of shape {short(tuple(tensor.shape))} is not stored with all of its values")


def other_kind(own: Tensor, stored: Tensor) -> bool:
    """Tell whether stored values are no fractions where a model's own are, or the reverse, or whole numbers of another kind."""
    return stored.dtype not in FRACTIONS if own.dtype in FRACTIONS else stored.dtype != own.dtype


def check_kinds(own: Mapping[str, Tensor], stored: Mapping[str, Tensor], *, source: str) -> None:
    """Raise CheckpointError where stored tensors hold other kinds of numbers than those of the same names in a model."""
    for name, tensor in stored.items():
        if name in own and other_kind(own[name], tensor):
            kinds = ", ".join(str(kind) for kind in (FRACTIONS if own[name].dtype in FRACTIONS else (own[name].dtype,)))
            raise CheckpointError(f"{source}: {name} holds {tensor.dtype}; accepted: {kinds.replace('torch.', '')}")


def _count(value: object) -> bool:
    return type(value) is int and value >= 0


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _seconds(value: Any) -> bool:
    return _number(value) and value >= 0


def _text(value: object) -> bool:
    return isinstance(value, str)


def _counts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(map(_count, value))


def _tensors(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


_COUNT, _NAME = (_count, "a whole number of at least 0"), (_text, "text")
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epoch": _COUNT,
    "step": _COUNT,
    "epochs": _COUNT,
    "seed": _COUNT,
    "budget": _COUNT,
    "train_s": (_seconds, "seconds"),
    "temperature": (_number, "a number"),
    "holdout": (_number, "a number"),
    "keep": (_counts, "a list of whole numbers"),
    "model": (_tensors, "tensors by name"),
    "ema": (_tensors, "tensors by name"),
    **dict.fromkeys(("digest", "search_space", "relaxation", "derivation", "architect", "metric"), _NAME),
}
