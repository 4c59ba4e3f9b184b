"""Values typed on the command line, read by the type of the default that they replace."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from lmsearch.errors import ConfigError

PATH_KEYS = (
    "run_dir",
    "genotype",
    "checkpoint",
    "init_from",
    "out",
    "sheet",
    "source",
    "class_names",
    "data.root",
    "search_space",
    "params_file",
    "storage",
    "search.storage",
)
LONGEST_PATH, LONGEST_NAME = 4095, 255  # bytes
Reader = Callable[[str], Any]


def read_int(text: str) -> int:
    """Read a whole number."""
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError("is not an integer")
    return int(text)


def read_float(text: str) -> float:
    """Read a finite number."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError("is not a number") from None
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    return value


def read_bool(text: str) -> bool:
    """Read true or false."""
    if text.lower() not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return text.lower() == "true"


def read_text(text: str) -> str:
    """Read text exactly as it was typed: spaces, commas, '=', quotes and brackets are part of it."""
    return text


def read_path(text: str) -> str:
    """Read a path or a name, exactly as it was typed."""
    if not text:
        raise ValueError("is empty")
    if "\0" in text or len(text.encode(errors="replace")) > LONGEST_PATH:
        raise ValueError("can be no path")
    if any(len(part.encode(errors="replace")) > LONGEST_NAME for part in text.split("/")) and "://" not in text:
        raise ValueError(f"can be no path: a name in it has more than {LONGEST_NAME} bytes")
    return text


def read_any(text: str) -> Any:
    """Read a number, true, false, null, text, [list] or {mapping} in Hydra's grammar."""
    try:
        override = OverridesParser.create().parse_override(f"key={text}")
    except (HydraException, RecursionError):
        raise ValueError("cannot be read; put text with special characters in quotes") from None
    if override.is_sweep_override():
        raise ValueError("holds several values; write a list as [a,b]")
    return override.value()


def read_ints(text: str) -> int | list[int]:
    """Read a whole number, or a list of them."""
    value = read_any(text)
    if not _all_of(value if isinstance(value, list) else [value], int):
        raise ValueError("is not an integer or a list of integers, such as 2 or [2,3]")
    return value


def read_numbers(text: str) -> float | list[float]:
    """Read a number, or a list of them."""
    value = read_any(text)
    if not _all_of(value if isinstance(value, list) else [value], (int, float)):
        raise ValueError("is not a number or a list of numbers, such as 0.5 or [0.5,1.0]")
    return [float(number) for number in value] if isinstance(value, list) else float(value)


def read_clip(text: str) -> float | str:
    """Read a number, or auto."""
    return text if text == "auto" else read_float(text)


def read_stages(text: str) -> list[list[float]]:
    """Read a list of pairs of numbers, such as [[0.1,6],[0.2,4]]."""
    value = read_any(text)
    pairs = isinstance(value, list) and all(isinstance(p, list) and len(p) == 2 for p in value)
    if not pairs or not _all_of([n for pair in value for n in pair], (int, float)):
        raise ValueError("is not a list of [progress,branches], such as [[0.1,6],[0.2,4]]")
    return value


def read_paths(text: str) -> str | list[str]:
    """Read a path exactly as it was typed, or a list of paths: [a,b], without commas inside one."""
    if not (text.startswith("[") and text.endswith("]")):
        return read_path(text)
    paths = [part.strip() for part in text[1:-1].split(",")]
    if not all(paths):
        raise ValueError("holds an empty path")
    return paths


# Keys whose default says too little: it is null in some files, or one of several types. All of them take null too.
OPTIONAL_TYPES: dict[str, Reader] = dict.fromkeys(PATH_KEYS, read_path) | {
    "threads": read_int,
    "keep": read_ints,
    "budget": read_int,
    "genotypes": read_paths,
    "images": read_paths,
    "derivation": read_text,
    "search.health_every": read_int,
    "search.passes": read_int,
    "img_size": read_ints,
    "sizes": read_ints,
    "baseline_limit": read_int,
    "num_classes": read_int,
    "in_chans": read_int,
    "merge": read_text,
    "data.img_size": read_ints,
    "data.val_fraction": read_float,
    "data.val_digest": read_text,
    "data.in_chans": read_int,
    "data.mean": read_numbers,
    "data.std": read_numbers,
    "data.num_train": read_int,
    "data.grid": read_ints,
    "data.directions": read_any,
    "data.memorise": read_text,
    "model.patch_size": read_int,
    "model.embed_dim": read_int,
    "model.depth": read_int,
    "model.d_state": read_int,
    "model.dims": read_ints,
    "model.depths": read_ints,
    "model.drop_path_rate": read_float,
    "model.use_rope": read_bool,
    "model.rope_residual": read_bool,
    "model.middle_cls_token": read_bool,
    "model.attention": read_text,
    "model.window_padding": read_text,
    "model.init": read_text,
    "model.stem": read_text,
    "model.global_pool": read_text,
    "search.trials": read_int,
    "search.budget_steps": read_float,
    "search.fewest": read_int,
    "search.objective2": read_text,
    "search.alpha_weight_decay_end": read_float,
    "search.temperature_end": read_float,
    "search.samples": read_int,
    "search.shrink": read_stages,
    "params": read_text,
    "overrides": read_text,
    "metric": read_text,
    "direction": read_text,
    "prune_metric": read_text,
    "study": read_path,
    "timeout": read_float,
    "population": read_int,
    "submitit.cluster": read_text,
    "submitit.mem_gb": read_float,
    "submitit.slurm_partition": read_text,
    "submitit.slurm_account": read_text,
    "optim.clip_grad": read_clip,
    "optim.ema_decay": read_float,
}
# Keys that are null in the presets of image folders, where a recipe chooses them, and of the default's type in others.
RECIPE_TYPES: dict[str, Reader] = {
    "epochs": read_int,
    "batch_size": read_int,
    "optim.lr": read_float,
    "optim.min_lr": read_float,
    "optim.warmup_lr": read_float,
    "optim.warmup_epochs": read_int,
    "optim.weight_decay": read_float,
    "optim.label_smoothing": read_float,
    "optim.mixup": read_float,
    "optim.cutmix": read_float,
    "optim.mix_prob": read_float,
    "data.scale": read_numbers,
    "data.ratio": read_numbers,
    "data.flip_prob": read_float,
    "data.randaugment_ops": read_int,
    "data.randaugment_magnitude": read_float,
    "data.randaugment_std": read_float,
    "data.erasing_prob": read_float,
    "data.crop_pct": read_float,
}
READERS: dict[type, Reader] = {bool: read_bool, int: read_int, float: read_float, str: read_text}


def read_value(key: str, text: str, default: Any) -> Any:
    """Return `text` as the type that `key` takes; raise ConfigError with one line for any other text.

    `default` is the value that it replaces. Where that is null, OPTIONAL_TYPES or RECIPE_TYPES decides; other keys
    then take anything.
    """
    optional = key in OPTIONAL_TYPES or default is None
    if optional and text == "null":
        return None
    try:
        if key in OPTIONAL_TYPES:
            return OPTIONAL_TYPES[key](text)
        if default is None and key in RECIPE_TYPES:
            return RECIPE_TYPES[key](text)
        if isinstance(default, Sequence) and not isinstance(default, str):
            return _read_list(text, default)
        return READERS.get(type(default), read_any)(text)
    except ValueError as error:
        null = "; null is accepted too" if optional else ""
        raise ConfigError(f"{key}={text!r} {error}{null}") from None


def literal(value: Any) -> Any:
    """Return text so that OmegaConf takes a "${" in it as it stands, not as a reference to another key."""
    if not isinstance(value, str):
        return value
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)


def _read_list(text: str, default: Sequence[Any]) -> list[Any]:
    """Read a list whose entries have the type of the default's entries; a list of floats takes whole numbers too."""
    value = read_any(text)
    if not isinstance(value, list):
        raise ValueError("is not a list, such as [a,b]")
    kinds = {type(entry) for entry in default}
    if kinds and kinds <= {int, float} and not _all_of(value, int if kinds == {int} else (int, float)):
        raise ValueError(f"is not a list of {'integers' if kinds == {int} else 'numbers'}, such as {list(default)}")
    if kinds == {str} and not _all_of(value, str):
        raise ValueError(f"is not a list of words, such as [{','.join(default)}]")
    return value


def _all_of(values: list[Any], kinds: type | tuple[type, ...]) -> bool:
    """Tell whether every entry has one of `kinds`; true and false are no numbers."""
    return all(isinstance(value, kinds) and not isinstance(value, bool) for value in values)
