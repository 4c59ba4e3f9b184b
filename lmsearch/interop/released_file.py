"""Files of weights as training scripts of others write them: where in them the weights are, and what is refused."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmsearch.errors import CheckpointError, first_line
from lmsearch.paths import BESIDE, CHECKPOINT_SCHEMA, TEXTS, is_exported

log = logging.getLogger(__name__)
OURS = "is of a run of ours; to=official writes a file under the released names of it"
DESCRIPTION = "lmsearch"  # the key beside "model" under which our own files say what network they hold
WEIGHTS = {"model": ("model", "state_dict"), "ema": ("ema_model", "model_ema", "state_dict_ema")}  # where they are kept
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")  # before every key: data-parallel training, torch.compile, Lightning
LONGEST_REASON = 160  # characters of what PyTorch says
ADVICE = ("Weights only load failed", "(1)", "(2)", "Check the documentation")  # begin what it says around the reason
Class = Callable[..., Any]
PLAIN: list[Class | tuple[Class, str]] = [  # in which training scripts keep their options; a CfgNode is read as a dict
    argparse.Namespace,
    (OrderedDict, "yacs.config.CfgNode"),
]


def read_official_checkpoint(path: str | Path, *, which: str = "model") -> dict[str, Tensor]:
    """Return the weights in a published checkpoint: under "model" or "state_dict", or the bare state dict.

    which: "ema" for the moving average beside them (under "ema_model", "model_ema" or "state_dict_ema"); where that is left,
    a warning says so. Only tensors and plain values are unpickled, never code. What wrappers put in front of every key, such as
    "module." and "model.", is dropped. Raises CheckpointError for a file that is missing, damaged, or holds anything else.
    """
    return read_described_checkpoint(path, which=which)[0]


def read_described_checkpoint(path: str | Path, *, which: str = "model") -> tuple[dict[str, Tensor], Mapping | None]:
    """Return the weights of `read_official_checkpoint`, and the description that `lmsearch convert to=official` put beside them.

    The description is None where there is none, as in every released file.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder; expected a file of weights, which to=official writes of a run")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    if is_exported(path):
        raise CheckpointError(f"{path}: holds no state dict; it is an exported file, which evaluate, predict and latency take")
    if path.suffix in (*TEXTS, *BESIDE):
        raise CheckpointError(
            f"{path}: a {path.suffix} file holds no weights; expected a .pth file, which to=official writes of a run"
        )
    if path.suffix == ".safetensors" and path.with_name("model.json").is_file():
        raise CheckpointError(f"{path}: {OURS}")
    content = _load_plain(path)
    if isinstance(content, Mapping) and content.get("schema") == CHECKPOINT_SCHEMA:
        raise CheckpointError(f"{path}: {OURS}")
    description = content.get(DESCRIPTION) if isinstance(content, Mapping) else None
    content = _weights_in(content, path, which=which)
    if not (
        isinstance(content, Mapping) and content and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())
    ):
        raise CheckpointError(
            f"{path}: holds no state dict; expected tensors by name, at the top or under 'model' or 'state_dict'"
        )
    return unwrapped(content), description if isinstance(description, Mapping) else None


def unwrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by name without the PREFIXES that all names share."""
    while shared := [prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in weights)]:
        weights = {key.removeprefix(shared[0]): tensor for key, tensor in weights.items()}
    return dict(weights)


def _weights_in(content: object, path: Path, *, which: str) -> object:
    """Return the part of a file that holds its weights or, for "ema", their moving average; say so where one is left."""
    if not isinstance(content, Mapping):
        return content
    held = {kind: [key for key in keys if isinstance(content.get(key), Mapping)] for kind, keys in WEIGHTS.items()}
    if which == "ema":
        if not held["ema"]:
            raise CheckpointError(f"{path}: holds no averaged weights, which are expected under {' or '.join(WEIGHTS['ema'])}")
        return content[held["ema"][0]]
    if held["ema"]:
        log.warning(
            "%s: its averaged weights, under %s, are left; weights=ema takes them in place of those under %s",
            path, held["ema"][0], (held["model"] or ["model"])[0],
        )  # fmt: skip
    return content[held["model"][0]] if held["model"] else content


def _load_plain(path: Path) -> object:
    try:
        with torch.serialization.safe_globals(PLAIN), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # refused below or read, either way
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := re.search(r"(?i)unsupported (?:global|class)\S* (?:GLOBAL )?(\S+)", str(error)):
            raise CheckpointError(f"{path}: refused, it holds a {found[1]}; only tensors and plain values are read") from error
        reason = _reason(error)
        raise CheckpointError(f"{path}: refused, it is damaged or holds more than tensors and plain values ({reason})") from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: not a readable PyTorch checkpoint ({first_line(error)[:LONGEST_REASON]})") from error


def _reason(error: pickle.UnpicklingError) -> str:
    """Return what of PyTorch's text says why it did not read a file."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(ADVICE)]
    return (told[-1].removeprefix("WeightsUnpickler error: ") if told else first_line(error))[:LONGEST_REASON]
