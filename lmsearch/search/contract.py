"""What an architect or a relaxation of one's own must have, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lmsearch.errors import ConfigError, short


def check_contract(
    given: object,
    *,
    what: str,
    texts: Sequence[str] = (),
    functions: Sequence[str] = (),
    lists: Sequence[str] = (),
    optional: Sequence[str] = (),
    switches: Sequence[str] = (),
) -> None:
    """Raise ConfigError unless `given` has all these attributes, each of its kind; optional functions may be None."""
    wanted = dict.fromkeys(texts, "text") | dict.fromkeys(functions, "a function") | dict.fromkeys(optional, "a function or None")
    wanted |= dict.fromkeys(lists, "a tuple of texts") | dict.fromkeys(switches, "true or false")
    right: dict[str, Callable[[Any], bool]] = {
        "text": lambda value: isinstance(value, str),
        "a function": callable,
        "a function or None": lambda value: value is None or callable(value),
        "a tuple of texts": lambda value: isinstance(value, tuple) and all(isinstance(text, str) for text in value),
        "true or false": lambda value: isinstance(value, bool),
    }
    if missing := [name for name in wanted if not hasattr(given, name)]:
        raise ConfigError(f"{short(given)} is no {what}: it has no {', '.join(missing)}; needed: {', '.join(wanted)}")
    for name, kind in wanted.items():
        if not right[kind](value := getattr(given, name)):
            raise ConfigError(f"{short(given)} is no {what}: its {name} is {short(value)}, expected {kind}")
