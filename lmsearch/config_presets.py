"""What the files of conf/ hold: tasks with their presets, the choices of a preset, and the keys that a choice brings.

Read without Hydra, which is slow to import: for --help, for the choices of a preset and for messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmsearch.config_values import READERS
from lmsearch.errors import ConfigError, did_you_mean
from lmsearch.paths import data_dir
from lmsearch.reading import is_folder, read_yaml
from lmsearch.settings.catalogue import declared_anywhere
from lmsearch.settings.model import MODELS, model_preset

WHOLE = "# @package _global_"  # a preset that holds sections of the whole configuration
SELF = "_self_"


def choices_of(group: str, *, conf_dir: Path | None = None) -> tuple[str, ...]:
    """Return the presets of a group, such as the names of models, sorted; empty where there is no such group."""
    folder = (conf_dir or data_dir("conf")) / group
    rows = MODELS if is_of_rows(group, folder) else ()
    return tuple(sorted([*rows, *(path.stem for path in folder.glob("*.yaml"))]))


def is_of_rows(group: str, folder: Path) -> bool:
    """Tell whether the presets of a group are rows of MODELS, which differ by name and family only, and no files."""
    return group == "model" and not folder.is_dir()


def task_presets(task: str, conf_dir: Path) -> dict[str, str]:
    """Return the presets of a task, each with its default choice, as conf/<task>.yaml has them."""
    entries = _read(conf_dir / f"{task}.yaml").get("defaults", [])
    return {group: str(choice or "null") for entry in entries if entry != SELF for group, choice in entry.items()}


def task_keys(task: str, conf_dir: Path) -> dict[str, Any]:
    """Return the keys of a task itself with their defaults, by dotted name."""
    return dict(_flat(_without_defaults(_read(conf_dir / f"{task}.yaml"))))


def preset_keys(group: str, choice: str, conf_dir: Path) -> dict[str, Any]:
    """Return the keys that a choice of a preset brings, by dotted name; none for null."""
    if is_of_rows(group, conf_dir / group):
        return {f"{group}.{name}": value for name, value in (model_preset(choice) if choice in MODELS else {}).items()}
    path = conf_dir / group / f"{choice}.yaml"
    if not path.is_file():
        return {}
    content = _read(path)
    bases = [base for base in content.get("defaults", ()) if base != SELF]
    prefix = "" if path.read_text(encoding="utf-8").startswith(WHOLE) else f"{group.replace('/', '.')}."
    own = dict(_flat(_without_defaults(content), prefix))
    return {key: value for base in bases for key, value in preset_keys(group, base, conf_dir).items()} | own


def kind_of(group: str, choice: str, conf_dir: Path) -> str:
    """Return what a choice of a preset is called where it is used: data=ade20k is data of the kind dense."""
    return str(preset_keys(group, choice, conf_dir).get(f"{group}.name", choice))


def own_keys(group: str, choice: str, conf_dir: Path) -> dict[str, Any]:
    """Return the keys that a choice brings otherwise than the choice that is called as its kind, by dotted name."""
    plain = preset_keys(group, kind_of(group, choice, conf_dir), conf_dir)
    return {key: value for key, value in preset_keys(group, choice, conf_dir).items() if key not in plain or plain[key] != value}


def presets_with(key: str, conf_dir: Path) -> list[str]:
    """Return the presets that bring a key, such as data=imagefolder for data.root."""
    group = key.partition(".")[0]
    choices = choices_of(group, conf_dir=conf_dir)
    return [f"{group}={choice}" for choice in choices if key in preset_keys(group, choice, conf_dir)]


def split_overrides(overrides: Sequence[str], *, conf_dir: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Split the command line's words into presets and values; a key given twice takes the last."""
    presets: dict[str, str] = {}
    values: dict[str, str] = {}
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][\w./-]*", key):
            raise ConfigError(f"{word!r} is not of the form key=value, such as seed=1")
        choices = choices_of(key, conf_dir=conf_dir)
        if not choices:
            check_path(key, text)
            values[key] = text
        elif text in choices or text == "null":
            presets[key] = text
        else:
            own = f"; images of your own: data=imagefolder data.root={text}" if key == "data" and is_folder(Path(text)) else ""
            raise ConfigError(f"{key}={text!r} is not a choice{did_you_mean(text, choices)}{own}")
    return presets, values


def check_path(key: str, text: str) -> None:
    """Raise ConfigError for what can be no path, before anybody looks there."""
    known = declared_anywhere().get(key)
    if known is None or known.kind != "path":
        return
    try:
        READERS["path"](text)
    except ValueError as error:
        raise ConfigError(f"{key}={text!r} {error}; null is accepted too") from None


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a file of conf/."""
    return read_yaml(path, error=ConfigError) or {}


def _without_defaults(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a file without its list of presets."""
    return {key: value for key, value in content.items() if key != "defaults"}


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values by dotted name; a mapping that is the value of a key stays whole."""
    for name, value in content.items():
        if isinstance(value, Mapping) and f"{prefix}{name}" not in declared_anywhere():
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
