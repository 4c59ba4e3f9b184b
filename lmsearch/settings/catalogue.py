"""Every key by its dotted name: of one task with its presets, and of all tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from lmsearch.settings.fields import Key
from lmsearch.settings.groups import Settings, keys_anywhere, keys_within
from lmsearch.settings.tasks import TASKS


def declared(task: str, content: Mapping[str, Any]) -> dict[str, Key]:
    """Return the keys that a configuration of a task may hold: its own, and those of other tasks that presets bring."""
    return declared_anywhere() | dict(keys_within(TASKS[task], content))


def declared_anywhere() -> dict[str, Key]:
    """Return every key of every task and preset: a name that several share as the first has it, with what any of them added."""
    return _merged(tuple(TASKS.values()))


@lru_cache(maxsize=4)
def _merged(kinds: tuple[type[Settings], ...]) -> dict[str, Key]:
    """Return the keys of several tasks."""
    found: dict[str, Key] = {}
    for kind in kinds:
        for name, key in keys_anywhere(kind):
            before = found.setdefault(name, key)
            if more := tuple(value for value in key.added if value not in before.added):
                found[name] = replace(before, added=before.added + more)
    return found
