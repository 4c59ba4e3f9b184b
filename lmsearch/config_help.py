"""The text of `lmsearch <task> --help`: every key with its default, from conf/, and its meaning, as it is declared."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmsearch.config_presets import choices_of, preset_keys, task_keys, task_presets
from lmsearch.settings.catalogue import declared
from lmsearch.settings.fields import Key
from lmsearch.settings.tasks import TASKS
from lmsearch.words import as_text

WIDTH = 110
LEFT = 34  # columns of key and default


def task_help(task: str, summary: str, *, conf_dir: Path, chosen: Mapping[str, str]) -> str:
    """Return the help text of one task: its presets with their choices, and its keys with default and meaning.

    `chosen` maps presets to the choices whose keys are shown in place of the default ones.
    """
    presets, own = _chosen(task_presets(task, conf_dir), chosen), task_keys(task, conf_dir)
    brought = {group: preset_keys(group, choice, conf_dir) for group, choice in presets.items()}
    keys = declared(task, nested(own | {key: value for inside in brought.values() for key, value in inside.items()}))
    lines = [f"lmsearch {task}: {summary}", "", f"usage: lmsearch {task} [key=value ...]", ""]
    if presets:
        lines += ["presets:"]
        for group, choice in presets.items():
            lines += [*_line(group, choice, TASKS[task].presets.get(group, "")), *_choices(group, conf_dir)]
        lines += [""]
    lines += ["keys, with their defaults:", *_table(own, keys), ""]
    for group, inside in brought.items():
        if inside:
            lines += [f"keys of {group}={presets[group]}, with their defaults:", *_table(inside, keys), ""]
    lines.append(f"lmsearch {task} --cfg prints every key with its value.")
    return "\n".join(lines)


def _chosen(presets: Mapping[str, str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Return the presets with the chosen values, and with ${preset} in a value replaced by that preset's choice."""
    values = {group: chosen.get(group, choice) for group, choice in presets.items()}
    return {group: re.sub(r"\$\{(\w+)\}", lambda m: values.get(m[1], m[0]), choice) for group, choice in values.items()}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys as sections."""
    content: dict[str, Any] = {}
    for name, value in values.items():
        *path, leaf = name.split(".")
        section = content
        for part in path:
            section = section.setdefault(part, {})
        section[leaf] = value
    return content


def _choices(group: str, conf_dir: Path) -> list[str]:
    """Return the choices of a preset as lines."""
    lines = textwrap.wrap(", ".join(choices_of(group, conf_dir=conf_dir)), WIDTH - 4, break_on_hyphens=False)
    return [f"    {text}" for text in lines]


def _table(values: Mapping[str, Any], keys: Mapping[str, Key]) -> list[str]:
    """Return the lines of keys with their defaults and meanings."""
    shown = {name: as_text(value) for name, value in values.items()}
    return [line for name, text in shown.items() for line in _line(name, text, keys[name].told(text))]


def _line(name: str, value: str, meaning: str) -> list[str]:
    """Return one aligned line; a long key stands on a line of its own."""
    left = f"{name}={value}"
    if len(left) > LEFT and meaning:
        return [f"  {left}", f"  {'':{LEFT}}  {meaning}"]
    return [f"  {left:{LEFT}}  {meaning}".rstrip()]
