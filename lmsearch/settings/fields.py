"""A configuration key as a field of a dataclass: its type says how text is read, its metadata what it means and accepts."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args, get_origin

PathName = Annotated[str, "path"]
PathNames = Annotated[str | list[str], "paths"]
Words = Annotated[str | list[str], "text"]  # a word, or a list that its reader takes apart
Ranges = Annotated[str | Mapping[str, Any], "text"]  # the same of a mapping
Ints = Annotated[int | list[int], "ints"]
Numbers = Annotated[float | list[float], "numbers"]
Clip = Annotated[float, "clip"]  # or auto, until a recipe has been chosen
Stages = Annotated[list[list[float]], "stages"]
AnyValue = Annotated[Any, "any"]
KINDS: dict[Any, str] = {bool: "bool", int: "int", float: "float", str: "text", list: "list"}
RECIPE = "by the recipe"


@dataclass(frozen=True)
class Key:
    """What is known of one key besides its name.

    words: those that are accepted, each with what it means, "" where that is plain. least, most: range of a number.
    null: what null means. check: returns what is wrong with a value, "" for nothing. by_recipe: the value, "null" or "auto",
    with which a preset leaves the choice to a recipe, until that is made. counts: False where the key says how a run is carried
    out, not which run it is. endless: a run may be given more of it and goes on. added: ("value",) that does what version 0.1.0
    did, which had no such key.
    kind, nullable: how text is read, from the type of the field.
    """

    help: str
    unit: str = ""
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    least: float | None = None
    most: float | None = None
    null: str = ""
    check: Callable[[Any], str] | None = None
    by_recipe: str | None = None
    counts: bool = True
    endless: bool = False
    added: tuple[Any, ...] = ()
    kind: str = ""
    nullable: bool = False

    def told(self, default: str) -> str:
        """Return its meaning, unit, accepted words and what null means, for --help beside this default."""
        words = " | ".join(f"{word} ({meaning})" if meaning else word for word, meaning in self.words.items())
        text = ": ".join(part for part in (", ".join(part for part in (self.help, self.unit) if part), words) if part)
        null = f"; null: {self.null}" if self.null else ""
        return f"{text}{null}{f'; {self.by_recipe}: {RECIPE}' if default == self.by_recipe else ''}"

    def fault(self, key: str, value: Any) -> str:
        """Return what is wrong with a value of the right type, "" for nothing."""
        if value is None:
            return ""
        if self.words and value not in self.words:
            return f"{key}={value!r} is not accepted; accepted: {', '.join(self.words)}"
        if isinstance(value, int | float) and self.least is not None:
            if value < self.least or (self.most is not None and value > self.most):
                return f"{key}={value} is out of range; accepted: {self.least} to {'any' if self.most is None else self.most}"
        return f"{key}={value} {wrong}" if self.check and (wrong := self.check(value)) else ""


def key(help: str = "", *, words: Mapping[str, str] | Sequence[str] = (), absent: bool = False, **facts: Any) -> Any:
    """Return a field that declares a key; see Key for its facts.

    words: may be a list of plain words. absent: only some presets bring the key; it is None beside the others.
    """
    meanings = words if isinstance(words, Mapping) else dict.fromkeys(words, "")
    metadata = {"key": Key(help, words=meanings, **facts)}
    return dataclasses.field(default=None, metadata=metadata) if absent else dataclasses.field(metadata=metadata)


def again(kind: type, name: str, **facts: Any) -> Any:
    """Return the field `name` of another class with some facts of its key changed, such as what it means for this task."""
    field = next(f for f in dataclasses.fields(kind) if f.name == name)
    metadata = {"key": replace(field.metadata["key"], **facts)}
    return dataclasses.field(default=field.default, metadata=metadata)


def parts_of(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, else the type alone."""
    return get_args(hint) if isinstance(hint, types.UnionType) or get_origin(hint) not in (None, Annotated, list) else (hint,)


def is_nullable(hint: Any) -> bool:
    """Tell whether a type takes None."""
    return type(None) in parts_of(hint)


def reader_of(hint: Any) -> str:
    """Return the name of the reader of a type: what it is annotated with, or that of a plain type."""
    part = next(part for part in parts_of(hint) if part is not type(None))
    return get_args(part)[1] if get_origin(part) is Annotated else KINDS[get_origin(part) or part]
