"""What the lines of parts.jsonl hold, checked as they are read: whoever reads the rows may rely on their keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from lmsearch.audit.setting import Plan, Speed
from lmsearch.status import Status

ARM = "arm "  # begins the keys of the literature's
NOTHING = ""
NEEDED = {  # keys of a part by how its own begins; the longest beginning counts
    NOTHING: (),
    "plan": ("plan", "speed"),
    "control planted": ("planted", "found", "derived", "status"),
    "control shuffled": ("status",),
    "searched round": ("val", "test"),
    "hand-made round": ("architecture", "val", "test"),
    ARM: ("architecture", "val", "test"),
    "random round": ("architecture", "val", "test"),
    "time": ("quick plan",),
    "order ": ("loss", "score"),
    "planted task": ("loss", "score"),
    "orderless task": ("loss", "score"),
    "second seed": ("architecture", "val", "test"),
}


def fault_of(row: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the row of a finished part, None for nothing."""
    key = row.get("key")
    if not isinstance(key, str):
        return "no part: it has no key"
    needed = NEEDED[max((begin for begin in NEEDED if key.startswith(begin)), key=len, default=NOTHING)]
    if missing := [name for name in ("took_s", *needed) if name not in row]:
        return f"{missing[0]} is missing"
    wrong = [name for name, right in KINDS.items() if name in row and not right(row[name])]
    return f"{wrong[0]} is of another kind" if wrong else None


def _number(value: object) -> bool:
    """Tell whether a value is a number; a training that diverged has an infinite score."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seconds(value: Any) -> bool:
    return _number(value) and math.isfinite(value) and value >= 0


def _text(value: object) -> bool:
    return isinstance(value, str)


def _names(value: object) -> bool:
    """Tell whether a value is a list of names for every layer."""
    return isinstance(value, list) and all(isinstance(layer, list) and all(map(_text, layer)) for layer in value)


def _scores(value: object) -> bool:
    """Tell whether a value is what a supernet says of architectures."""
    return isinstance(value, list) and all(
        isinstance(one, dict) and _names(one.get("architecture")) and _said(one) for one in value
    )


def _said(one: Mapping[str, Any]) -> bool:
    return all(_number(value) for name, value in one.items() if name != "architecture")


def _plan(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {f.name for f in fields(Plan)} and all(map(_count, value.values()))


def _count(value: object) -> bool:
    return type(value) is int and value >= 0


def _speed(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {f.name for f in fields(Speed)} and all(map(_seconds, value.values()))


KINDS: dict[str, Callable[[Any], bool]] = {
    "took_s": _seconds,
    "plan": _plan,
    "speed": _speed,
    "planted": _text,
    "found": lambda value: isinstance(value, bool),
    "derived": _names,
    "status": lambda value: _text(value) and value in list(Status),
    "architecture": _names,
    "val": _number,
    "test": _number,
    "scores": _scores,
    "loss": _number,
    "balanced_loss": _number,
    "score": _number,
}
