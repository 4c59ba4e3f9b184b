"""What a genotype file may hold: the types of its JSON content, and the reader of nested direction lists."""

from __future__ import annotations

import ast
import json
import math
import numbers
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from lmsearch.errors import GenotypeError, did_you_mean, short

SCHEMA = "lmsearch.genotype"
VERSION = 1
DIGITS = 6  # decimals of every float in the file
TOP_KEYS = ("schema", "version", "layers", "model", "search_space", "keep", "derivation", "health", "provenance", "orders")
LAYER_KEYS = ("directions", "name", "scores", "margin")
MAX_LISTS = 2**20  # characters of direction lists
TEXT, OBJECT, LIST = "text", "an object", "a list"
KINDS = {TEXT: str, OBJECT: dict, LIST: list}


def check(content: Any, *, where: str) -> None:
    """Raise GenotypeError unless `content` has the keys and types of a genotype; direction names are not looked at."""
    if not isinstance(content, dict):
        raise GenotypeError(f"{where}: a genotype is a JSON object with schema, version and layers; got {short(content)}")
    if content.get("schema") != SCHEMA:
        raise GenotypeError(f"{where}: schema {short(content.get('schema'))} is not a genotype; accepted: {SCHEMA!r}")
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        raise GenotypeError(f"{where}: version {short(version)} cannot be read; accepted: {VERSION}")
    _known_keys(content, TOP_KEYS, where=where)
    for key in ("model", "search_space"):
        _kind(content, key, TEXT, where=where)
    for key in ("derivation", "health", "provenance", "orders"):
        _kind(content, key, OBJECT, where=where)
    _check_keep(content.get("keep"), where=where)
    if not isinstance(content.get("layers"), list) or not content["layers"]:
        raise GenotypeError(f"{where}: layers {short(content.get('layers'))} must be a list with one object per layer")
    for number, layer in enumerate(content["layers"]):
        _check_layer(layer, where=f"{where}: layer {number}")


def plain(value: Any, *, where: str) -> Any:
    """Return `value` as plain JSON content: tuples as lists, numbers as int or float, floats rounded."""
    if isinstance(value, Mapping):
        return {str(key): plain(item, where=where) for key, item in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, Sequence):
        return [plain(item, where=where) for item in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        if not math.isfinite(value):
            raise GenotypeError(f"{where}: {value} is not a number that a genotype may hold")
        return round(float(value), DIGITS) + 0.0  # + 0.0 turns -0.0 into 0.0
    raise GenotypeError(f"{where}: {short(value)} cannot be written as JSON")


def read_direction_lists(text: str, *, where: str) -> list[list[str]]:
    """Return the nested list in `text`: JSON, or a Python literal with or without a name before it (x = [[...], ...])."""
    if len(text) > MAX_LISTS:
        raise GenotypeError(f"{where}: more than {MAX_LISTS:,} characters, which are no direction lists")
    try:
        lists = json.loads(text)
    except (ValueError, RecursionError):
        lists = _python_literal(text, where=where)
    if not isinstance(lists, list | tuple) or not lists:
        raise GenotypeError(f"{where}: expected one list of directions per layer, such as [['h', 'v_flip'], ...]")
    for number, layer in enumerate(lists):
        if not isinstance(layer, list | tuple):
            raise GenotypeError(f"{where}: layer {number}: expected a list of directions, got {short(layer)}")
    return [list(layer) for layer in lists]


def _python_literal(text: str, *, where: str) -> Any:
    """Return the one literal that `text` holds; nothing is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes in a text that is no direction anyway
            body = ast.parse(text.strip()).body
        if len(body) != 1 or not isinstance(body[0], ast.Expr | ast.Assign):
            raise SyntaxError("not one literal")
        return ast.literal_eval(body[0].value)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise GenotypeError(f"{where}: not a nested list of directions in JSON or Python; is the file complete?") from error


def _check_layer(layer: Any, *, where: str) -> None:
    """Check the keys and types of one layer."""
    if not isinstance(layer, dict):
        raise GenotypeError(f"{where}: expected an object with the key directions, got {short(layer)}")
    _known_keys(layer, LAYER_KEYS, where=where)
    names = layer.get("directions")
    if not isinstance(names, list) or not names:
        raise GenotypeError(f"{where}: directions {short(names)} must be a list of at least one direction")
    for name in names:
        if not isinstance(name, str):
            raise GenotypeError(f"{where}: direction {short(name)} must be text, such as h or w2_flip")
    _kind(layer, "name", TEXT, where=where)
    _kind(layer, "scores", OBJECT, where=where)
    for name, score in layer.get("scores", {}).items():
        if not _is_number(score):
            raise GenotypeError(f"{where}: the score of {short(name)[1:-1]}, {short(score)}, must be a number")
    if "margin" in layer and not _is_number(layer["margin"]):
        raise GenotypeError(f"{where}: margin {short(layer['margin'])} must be a number")


def _check_keep(keep: Any, *, where: str) -> None:
    """Check that keep is absent, one whole number, or one per layer."""
    listed = keep if isinstance(keep, list) else [keep]
    if keep is not None and (not listed or any(type(number) is not int or number < 1 for number in listed)):
        raise GenotypeError(f"{where}: keep {short(keep)} must be a whole number of at least 1, or a list of them")


def _known_keys(content: dict[str, Any], accepted: tuple[str, ...], *, where: str) -> None:
    """Raise GenotypeError for a key that is not accepted."""
    for key in content:
        if key not in accepted:
            raise GenotypeError(f"{where}: unknown key {short(key)}{did_you_mean(key, accepted)}")


def _kind(content: dict[str, Any], key: str, kind: str, *, where: str) -> None:
    """Raise GenotypeError where `key` is present with another type than `kind`."""
    if key in content and not isinstance(content[key], KINDS[kind]):
        raise GenotypeError(f"{where}: {key} {short(content[key])} must be {kind}")


def _is_number(value: Any) -> bool:
    """Tell whether `value` is an int or a float."""
    return isinstance(value, int | float) and not isinstance(value, bool)
