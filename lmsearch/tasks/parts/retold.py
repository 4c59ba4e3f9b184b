"""The command of a run, told again from its config.yaml: presets, and every key that differs from its default."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from lmsearch.config import compose_presets
from lmsearch.config_presets import choices_of, preset_keys, task_presets
from lmsearch.paths import data_dir
from lmsearch.settings.catalogue import declared_anywhere
from lmsearch.words import as_text

LAST, NEVER = "run_dir", ("overwrite",)  # where it stands in the command; a key that would delete what is there


def command_of(task: str, content: Mapping[str, Any]) -> str:
    """Return the command whose configuration is `content`, as a shell takes it. Keys that this version lacks are left out."""
    conf = data_dir("conf")
    shipped, presets = task_presets(task, conf), {}
    for group, default in shipped.items():
        section = content.get(group)
        named = section.get("name") if isinstance(section, Mapping) else None
        if named in choices_of(group):
            presets[group] = str(named)
        elif isinstance(section, Mapping) and "${" not in default:
            presets[group] = _nearest(group, section, default)
    chosen = {group: choice for group, choice in presets.items() if choice != shipped[group]}
    composed = compose_presets(task, tuple(chosen.items()), conf)
    defaults = dict(_keys(_resolved(composed)))
    words = [f"{group}={choice}" for group, choice in chosen.items()]
    found = {key: value for key, value in _keys(content) if key in defaults and defaults[key] != value and key not in NEVER}
    last = found.pop(LAST, None)
    words += [f"{key}={as_text(value)}" for key, value in found.items()]
    words += [] if last is None else [f"{LAST}={last}"]
    return shlex.join(["lmsearch", task, *words])


def _resolved(composed: Any) -> dict[str, Any]:
    """Return a configuration with references resolved; those to keys that must be given stay as they are."""
    copied = OmegaConf.create(OmegaConf.to_container(composed, resolve=False))
    missing = OmegaConf.missing_keys(copied)
    for key in missing:
        OmegaConf.update(copied, key, None)
    content: dict[str, Any] = OmegaConf.to_container(copied, resolve=True)  # type: ignore[assignment]
    return content


def _keys(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values under dotted names; a mapping that is the value of a key stays whole."""
    for name, value in content.items():
        if isinstance(value, Mapping) and f"{prefix}{name}" not in declared_anywhere():
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _nearest(group: str, section: Mapping[str, Any], default: str) -> str:
    """Return the preset of a group with the fewest keys that differ from a section; of equal ones the default."""
    mine = {f"{group}.{key}": value for key, value in _keys(section)}

    def differing(choice: str) -> tuple[int, bool]:
        keys = preset_keys(group, choice, data_dir("conf"))
        return len(
            [key for key in keys.keys() | mine.keys() if keys.get(key, _ABSENT) != mine.get(key, _ABSENT)]
        ), choice != default

    return min(choices_of(group), key=differing)


_ABSENT = object()
