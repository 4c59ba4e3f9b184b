"""Sections of a configuration as dataclasses: made from plain values, and asked for the keys that they declare."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Self, TypeVar, cast, get_type_hints

from lmsearch.settings.fields import Key, is_nullable, parts_of, reader_of

V = TypeVar("V")


@dataclass(frozen=True, kw_only=True)
class Group:
    """A section of a configuration: its keys, and sections inside it, as attributes. A subclass declares them."""

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> Self:
        """Return the settings in a section of plain values; keys that only a preset brought and nobody reads are left out."""
        return cls(**values_in(cls, section))

    def options(self) -> dict[str, Any]:
        """Return the keys that are set, by name."""
        values = {name: getattr(self, name) for name in keys_of(type(self))}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Settings(Group):
    """The configuration of a task; `content` has all of it as plain values, as config.yaml does."""

    presets: ClassVar[Mapping[str, str]] = {}  # what the default of a preset means, where --help should say so
    content: Mapping[str, Any]

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> Self:
        """Return the settings that a whole configuration holds."""
        return cls(**values_in(cls, section), content=section)

    def changed(self, values: Mapping[str, Any]) -> Self:
        """Return the settings with other values, by dotted key."""
        content = copy.deepcopy(dict(self.content))
        for name, value in values.items():
            *path, leaf = name.split(".")
            section = content
            for part in path:
                section = section[part]
            section[leaf] = value
        return type(self).of(content)

    def get(self, name: str) -> Any:
        """Return the value at a dotted key, None where the configuration has no such key."""
        value: Any = self.content
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


def values_in(kind: type[Group], section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a group's fields, sections inside it as groups."""
    values = {name: section[name] for name in types_of(kind) if name in section}
    for name, kinds in groups_of(kind).items():
        if values.get(name) is not None:
            values[name] = kind_of(kinds, values[name]).of(values[name])
    return values


def kind_of(kinds: Sequence[type[Group]], section: Mapping[str, Any]) -> type[Group]:
    """Return the kind of a section: the one that declares most of its keys, and of those that do, the fewest others."""
    return max(kinds, key=lambda kind: (len(types_of(kind).keys() & section.keys()), -len(types_of(kind))))


def once(function: Callable[[type[Group]], V]) -> Callable[[type[Group]], V]:
    """Return a function of a class that remembers its answers."""
    return cast(Callable[[type[Group]], V], cache(function))


@once
def types_of(kind: type[Group]) -> dict[str, Any]:
    """Return the types of a group's keys and sections, by name."""
    hints = get_type_hints(kind, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind) if f.name != "content"}


@once
def groups_of(kind: type[Group]) -> dict[str, tuple[type[Group], ...]]:
    """Return the kinds that each section inside a group may be of."""
    found = {name: tuple(part for part in parts_of(hint) if _is_group(part)) for name, hint in types_of(kind).items()}
    return {name: kinds for name, kinds in found.items() if kinds}


@once
def keys_of(kind: type[Group]) -> dict[str, Key]:
    """Return the keys that a group declares itself, without those of sections inside it."""
    hints = {name: hint for name, hint in types_of(kind).items() if name not in groups_of(kind)}
    declared = {f.name: f.metadata["key"] for f in dataclasses.fields(kind) if f.name in hints}
    return {n: replace(k, kind=reader_of(hints[n]), nullable=is_nullable(hints[n])) for n, k in declared.items()}


def keys_within(kind: type[Group], section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Key]]:
    """Yield the keys that a section of this kind may hold, by dotted name, with those of the sections inside it."""
    yield from ((f"{prefix}{name}", key) for name, key in keys_of(kind).items())
    for name, kinds in groups_of(kind).items():
        if isinstance(inside := section.get(name), Mapping):
            yield from keys_within(kind_of(kinds, inside), inside, f"{prefix}{name}.")


def keys_anywhere(kind: type[Group], prefix: str = "") -> Iterator[tuple[str, Key]]:
    """Yield the keys of a group and of every kind that a section inside it may be of, by dotted name."""
    yield from ((f"{prefix}{name}", key) for name, key in keys_of(kind).items())
    for name, kinds in groups_of(kind).items():
        for inside in kinds:
            yield from keys_anywhere(inside, f"{prefix}{name}.")


def _is_group(part: Any) -> bool:
    """Tell whether a type is a Group."""
    return isinstance(part, type) and issubclass(part, Group)
