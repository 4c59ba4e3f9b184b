"""Values typed on the command line, read as their keys are declared."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from lmsearch.errors import ConfigError
from lmsearch.reading import MAX_DEPTH, TOO_DEEP, is_whole
from lmsearch.settings.fields import Key

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
    _check_path(text)
    if not is_whole(text):
        raise ValueError("is not UTF-8, as what a run writes down must be; rename the folder, or link to it")
    return text


def _check_path(text: str) -> None:
    """Raise ValueError for what can be no path."""
    if not text:
        raise ValueError("is empty")
    if "\0" in text or len(text.encode(errors="replace")) > LONGEST_PATH:
        raise ValueError("can be no path")
    if any(len(part.encode(errors="replace")) > LONGEST_NAME for part in text.split("/")) and "://" not in text:
        raise ValueError(f"can be no path: a name in it has more than {LONGEST_NAME} bytes")


def read_any(text: str) -> Any:
    """Read a number, true, false, null, text, [list] or {mapping} in Hydra's grammar."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # slow to import
    from hydra.errors import HydraException

    if _depth(text) > MAX_DEPTH:
        raise ValueError(f"holds {TOO_DEEP}")
    try:
        override = OverridesParser.create().parse_override(f"key={text}")
    except (HydraException, RecursionError):
        raise ValueError("cannot be read; put text with special characters in quotes") from None
    if override.is_sweep_override():
        raise ValueError("holds several values; write a list as [a,b]")
    return override.value()


def _depth(text: str) -> int:
    """Return how many brackets stand open at most; quoted ones count too."""
    depth = deepest = 0
    for letter in text:
        depth += (letter in "[{(") - (letter in ")}]")
        deepest = max(deepest, depth)
    return deepest


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
    """Read a path exactly as it was typed, or a list of paths: [a,b], without commas inside one. They may be of any bytes."""
    if not (text.startswith("[") and text.endswith("]")):
        _check_path(text)
        return text
    paths = [part.strip() for part in text[1:-1].split(",")]
    if not all(paths):
        raise ValueError("holds an empty path")
    return paths


READERS: dict[str, Reader] = {  # by kind of a Key
    "bool": read_bool,
    "int": read_int,
    "float": read_float,
    "text": read_text,
    "path": read_path,
    "paths": read_paths,
    "ints": read_ints,
    "numbers": read_numbers,
    "clip": read_clip,
    "stages": read_stages,
    "any": read_any,
}


def read_value(name: str, text: str, key: Key, default: Any) -> Any:
    """Return `text` as the type that a key takes; raise ConfigError with one line for any other text.

    `default` is the value that it replaces. What a recipe may choose takes null only where the default leaves it open.
    """
    nullable = key.nullable or (key.by_recipe == "null" and default is None)
    if nullable and text == "null":
        return None
    try:
        return _read_list(text, default or ()) if key.kind == "list" else READERS[key.kind](text)
    except ValueError as error:
        null = "; null is accepted too" if nullable else ""
        raise ConfigError(f"{name}={text!r} {error}{null}") from None


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
