"""The text of `lmsearch <task> --help`, read from the comments in conf/: every key, its default and its meaning."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lmsearch.config import choices_of

LINE = re.compile(r"(?P<indent> *)(?P<dash>- )?(?:override )?/?(?P<key>[\w./]+):(?: +(?P<value>.*?))?(?: +# *(?P<note>.*))?")
BASE = re.compile(r"^  - (?!_self_)(\w+)$", re.MULTILINE)  # a preset of the same group that a preset starts from
WIDTH = 110


@dataclass(frozen=True)
class Option:
    """One line of a YAML file: a dotted key, its default as written, its comment; `preset`: it is of the defaults list."""

    key: str
    value: str
    note: str
    preset: bool


def task_help(task: str, summary: str, *, conf_dir: Path, chosen: Mapping[str, str]) -> str:
    """Return the help text of one task: its presets with their choices, and its keys with default and meaning.

    `chosen` maps presets to the choices whose keys are shown in place of the default ones.
    """
    options = list(read_options(conf_dir / f"{task}.yaml"))
    presets = _choose([o for o in options if o.preset], chosen)
    lines = [f"lmsearch {task}: {summary}", "", f"usage: lmsearch {task} [key=value ...]", ""]
    if presets:
        lines += ["presets:", *(text for o in presets for text in _preset_lines(o, conf_dir)), ""]
    lines += ["keys, with their defaults:", *_table(o for o in options if not o.preset), ""]
    for preset in presets:
        inside = _preset_options(preset, conf_dir)
        if inside:
            lines += [f"keys of {preset.key}={preset.value}, with their defaults:", *_table(inside), ""]
    lines.append(f"lmsearch {task} --cfg prints every key with its value.")
    return "\n".join(lines)


def read_options(path: Path) -> Iterator[Option]:
    """Yield the keys of a YAML file of mappings, nested ones under dotted names, each with its trailing comment."""
    sections: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = LINE.fullmatch(line.rstrip())
        if match is None:
            continue
        indent, value, note = len(match["indent"]), match["value"] or "", match["note"] or ""
        sections = [entry for entry in sections if entry[0] < indent]
        if match["dash"]:
            yield Option(match["key"], value, note, preset=True)
        elif value and not value.startswith("#"):
            yield Option(".".join([name for _, name in sections] + [match["key"]]), value, note, preset=False)
        else:
            sections.append((indent, match["key"]))


def _choose(presets: list[Option], chosen: Mapping[str, str]) -> list[Option]:
    """Return the presets with the chosen values, and with ${preset} in a value replaced by that preset's choice."""
    values = {o.key: o.value for o in presets} | chosen
    filled = {key: re.sub(r"\$\{(\w+)\}", lambda m: values.get(m[1], m[0]), value) for key, value in values.items()}
    return [replace(o, value=filled[o.key]) for o in presets]


def _preset_options(preset: Option, conf_dir: Path) -> list[Option]:
    """Return the keys that the default choice of a preset brings, under the names that the command line takes."""
    path = conf_dir / preset.key / f"{preset.value}.yaml"
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    prefix = "" if "# @package _global_" in text else preset.key.replace("/", ".") + "."
    own = [Option(prefix + o.key, o.value, o.note, False) for o in read_options(path) if not o.preset and o.note]
    merged = {o.key: o for base in BASE.findall(text) for o in _preset_options(replace(preset, value=base), conf_dir)}
    return list((merged | {o.key: o for o in own}).values())


def _preset_lines(preset: Option, conf_dir: Path) -> list[str]:
    """Return the lines of one preset: its default and meaning, then its choices."""
    choices = textwrap.wrap(", ".join(choices_of(preset.key, conf_dir=conf_dir)), WIDTH - 4, break_on_hyphens=False)
    return [*_table([preset]), *(f"    {text}" for text in choices)]


def _table(options: Iterator[Option] | list[Option]) -> list[str]:
    """Return one aligned line per key; a long key stands on a line of its own."""
    lines = []
    for option in options:
        left = f"{option.key}={option.value}"
        if len(left) > 34 and option.note:
            lines += [f"  {left}", f"  {'':34}  {option.note}"]
        else:
            lines.append(f"  {left:34}  {option.note}".rstrip())
    return lines
