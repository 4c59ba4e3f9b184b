"""Reading what people wrote: text, JSON and YAML, strictly and within bounds, with one clear line for anything else.

Strict: UTF-8, every key once, finite numbers, whole texts. Bounded: bytes of a file, depth, entries, digits of a number.
`where` names the file in errors, `error` is the class to raise.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml

from lmsearch.errors import FileError, LmsearchError, short

MAX_BYTES = 16 * 2**20  # of a file of text
MAX_DEPTH = 50  # lists and mappings inside each other
MAX_ENTRIES = 2_000_000  # of all lists and mappings together
MAX_DIGITS = 100  # of an integer
PLAIN = (float, int, bool, type(None))  # values that hold no others, and no text
TOO_DEEP = f"lists or mappings inside each other more than {MAX_DEPTH} deep"
Error = type[LmsearchError]


def is_file(path: str | Path) -> bool:
    """Tell whether a file is there; text that can be no path, however long, is no file."""
    return os.path.isfile(path)


def is_folder(path: str | Path) -> bool:
    """Tell whether a folder is there; text that can be no path, however long, is no folder."""
    return os.path.isdir(path)


def is_same(one: str | Path, other: str | Path) -> bool:
    """Tell whether two paths lead to the same file or folder, however they are written; where none is, by their texts."""
    one, other = user_path(one), user_path(other)
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return os.path.abspath(one) == os.path.abspath(other)


def user_path(text: str | Path) -> Path:
    """Return a path with "~" as the home folder, where there is one."""
    return Path(os.path.expanduser(text))


def read_text(path: Path, *, where: str, error: Error, most: int = MAX_BYTES) -> str:
    """Return the text of a file; raise `error` where it cannot be read, is no UTF-8, or has more than `most` bytes."""
    content = _read(path, where=where, error=error, most=most + 1)
    if len(content) > most:
        raise error(f"{where}: more than {most:,} bytes, which is no file of this kind")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(f"{where}: not a text file, since byte {reason.start} is not UTF-8") from reason


def read_json_lines(path: Path) -> list[dict]:
    """Return what the lines of a file hold, nothing where there is none; a last line that was cut off counts as not there.

    Numbers that are not finite are read where they stand as NaN or Infinity, as json writes them.
    Raises FileError where the file cannot be read, and, naming the line, where one is no JSON object.
    """
    lines = _read(path, where=str(path), error=FileError).split(b"\n")[:-1] if os.path.lexists(path) else []
    return [_json_object(line, where=f"{path}: line {number}") for number, line in enumerate(lines, start=1)]


def _json_object(line: bytes, *, where: str) -> dict:
    """Read one line."""
    try:
        value = parse_json(line.decode(), where=where, error=FileError, constants=float)
    except (UnicodeDecodeError, FileError):
        value = None
    if not isinstance(value, dict):
        raise damaged_line(where, "no JSON object")
    return value


def damaged_line(where: str, why: str) -> FileError:
    """Return the error for a line of a log that a run keeps."""
    return FileError(f"{where} is damaged ({why}); delete this line, or start the run over with overwrite=true")


def _read(path: Path, *, where: str, error: Error, most: int = -1) -> bytes:
    """Return the bytes of a file, `most` of them at most; raise `error` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except (OSError, ValueError) as reason:  # ValueError: text that can be no path
        raise error(f"{where}: cannot be read ({getattr(reason, 'strerror', None) or reason})") from reason


def read_json(path: Path, *, error: Error) -> Any:
    """Return the content of a JSON file; raise `error`, naming the file, as `read_text` and `parse_json` do."""
    return parse_json(read_text(path, where=str(path), error=error), where=str(path), error=error)


def read_yaml(path: Path, *, error: Error) -> Any:
    """Return the content of a YAML file; raise `error`, naming the file, as `read_text` and `parse_yaml` do."""
    return parse_yaml(read_text(path, where=str(path), error=error), where=str(path), error=error)


def object_in(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file that a run may have left: an empty one where there is none or it cannot be read."""
    try:
        content = read_json(path, error=FileError)
    except FileError:
        return {}
    return content if isinstance(content, dict) else {}


def parse_json(text: str, *, where: str, error: Error, constants: Callable[[str], float] | None = None) -> Any:
    """Return the content of JSON `text`; raise `error` for what is not JSON, for a key given twice and beyond the bounds.

    `constants` reads NaN and Infinity, which are no JSON; None: they are refused.
    """
    constants = constants or _number
    try:
        content = json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=constants, object_pairs_hook=_once)
    except json.JSONDecodeError as reason:
        place = f"line {reason.lineno}, column {reason.colno}"
        raise error(f"{where}: not valid JSON at {place} ({reason.msg}); is the file complete?") from reason
    except RecursionError as reason:
        raise error(f"{where}: {TOO_DEEP}") from reason
    except ValueError as reason:
        raise error(f"{where}: {reason}") from reason
    return check_bounds(content, where=where, error=error)


def parse_yaml(text: str, *, where: str, error: Error) -> Any:
    """Return the content of YAML `text`: texts, numbers, true, false, null, lists and mappings. A date is a text.

    Raises `error` for what is not YAML, for a key given twice and beyond the bounds.
    """
    try:
        content = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a safe loader that reads less
    except yaml.YAMLError as reason:
        mark = getattr(reason, "problem_mark", None)
        place = "" if mark is None else f", line {mark.line + 1}"
        why = getattr(reason, "problem", None) or getattr(reason, "reason", None) or "unreadable"
        raise error(f"{where}{place}: not a readable YAML file ({why})") from reason
    except (ValueError, OverflowError) as reason:  # an escaped character that does not exist
        raise error(f"{where}: not a readable YAML file ({reason})") from reason
    return check_bounds(content, where=where, error=error)


def check_bounds(content: Any, *, where: str, error: Error) -> Any:
    """Return `content`; raise `error` where it is too deep, has too many entries, or holds half a character."""
    level, entries = [content], 0
    for _ in range(MAX_DEPTH + 1):
        entries += sum(len(value) for value in level if isinstance(value, Mapping | list | tuple))
        if entries > MAX_ENTRIES:
            raise error(f"{where}: more than {MAX_ENTRIES:,} entries")
        for value in level:
            if isinstance(value, str) and not is_whole(value):
                raise error(f"{where}: {short(value)} holds half a character (a lone surrogate)")
        level = [part for value in level for part in _parts(value) if type(part) not in PLAIN]
        if not level:
            return content
    raise error(f"{where}: {TOO_DEEP}")


def _parts(value: Any) -> list[Any]:
    """Return the entries of a list, and the keys and values of a mapping."""
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, list | tuple) else []


def is_whole(text: str) -> bool:
    """Tell whether a text can be written as UTF-8."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _integer(text: str) -> int:
    """Return a whole number of at most MAX_DIGITS digits."""
    if len(text) > MAX_DIGITS:
        raise ValueError(f"{short(text)} has more than {MAX_DIGITS} digits")
    return int(text)


def _number(text: str) -> float:
    """Return a finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{short(text)[1:-1]} is not a number that a file may hold")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; raise ValueError for a key given twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for number, key in enumerate(names) if key in names[:number])
        raise ValueError(f"the key {short(twice)} is given twice")
    return content


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader without dates, binary data, sets and tags of its own, with every key once and bounded numbers."""

    yaml_implicit_resolvers = {
        first: [(tag, regex) for tag, regex in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node, unless it is too deep."""
        self.depth += 1
        if self.depth > MAX_DEPTH + 1:
            raise yaml.composer.ComposerError(None, None, TOO_DEEP, self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def mapping(self, node: yaml.Node) -> dict:
        """Construct a mapping without merge keys."""
        content: dict[Any, Any] = {}
        for key_node, value_node in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                self._refuse(key_node, "a key must be text or a number")
            key = self.construct_object(key_node)
            if key in content:
                self._refuse(key_node, f"the key {short(key)} is given twice")
            content[key] = self.construct_object(value_node, deep=True)
        return content

    def sequence(self, node: yaml.SequenceNode) -> list:
        """Construct a list."""
        return self.construct_sequence(node, deep=True)

    def scalar(self, node: yaml.Node) -> Any:
        """Construct a number, true, false or null."""
        kind = node.tag.rpartition(":")[2]
        if kind == "int" and isinstance(node.value, str) and len(node.value) > MAX_DIGITS:
            self._refuse(node, f"{short(node.value)} has more than {MAX_DIGITS} digits")
        try:
            value = getattr(self, f"construct_yaml_{kind}")(node)
        except (ValueError, KeyError, IndexError, OverflowError, AttributeError):
            self._refuse(node, f"{short(node.value)} is not of the kind that its tag says")
        if isinstance(value, float) and not math.isfinite(value):
            self._refuse(node, f"{short(node.value)} is not a number that a file may hold")
        return value

    def unknown(self, node: yaml.Node) -> Any:
        """Refuse a node with a tag of its own."""
        return self.construct_undefined(node)

    @staticmethod
    def _refuse(node: yaml.Node, why: str) -> NoReturn:
        raise yaml.constructor.ConstructorError(None, None, why, node.start_mark)


for _kind in ("null", "bool", "int", "float", "str"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _StrictLoader.scalar)
_StrictLoader.add_constructor("tag:yaml.org,2002:map", _StrictLoader.mapping)
_StrictLoader.add_constructor("tag:yaml.org,2002:seq", _StrictLoader.sequence)
_StrictLoader.add_constructor(None, _StrictLoader.unknown)
