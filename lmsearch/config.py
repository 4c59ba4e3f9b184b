"""Configuration of a task: conf/<task>.yaml, its presets, and the key=value words of the command line, checked.

Presets (model=..., data=...) are Hydra groups: one choice per file in conf/<group>/, models one row each. Every other key=value
is read as its key is declared in lmsearch.settings, so that paths may hold any character and a wrong type is one clear line.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from lmsearch.config_presets import is_of_rows, presets_with, split_overrides
from lmsearch.config_values import literal, read_value
from lmsearch.errors import ConfigError, OtherPresetsError, did_you_mean
from lmsearch.paths import data_dir
from lmsearch.settings.catalogue import declared
from lmsearch.settings.fields import Key
from lmsearch.settings.groups import Settings
from lmsearch.settings.model import MODELS, model_preset
from lmsearch.settings.tasks import TASKS
from lmsearch.words import dotted

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Defaults:
    """What stands in place of the shipped defaults until the command line says otherwise: presets, and values by dotted key."""

    presets: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


def compose(task: str, overrides: Sequence[str], *, defaults: Defaults | None = None, conf_dir: Path | None = None) -> DictConfig:
    """Return the configuration of `task` with the `overrides` ("key=value") applied, over `defaults` where it has those keys.

    Raises ConfigError with one clear line for an unknown key or preset, a value of another type, or a missing value.
    """
    conf_dir, defaults = conf_dir or data_dir("conf"), defaults or Defaults()
    presets, values = split_overrides(overrides, conf_dir=conf_dir)
    cfg = copy.deepcopy(compose_presets(task, tuple({**defaults.presets, **presets}.items()), conf_dir))
    accepted = set(keys_of(cfg)) if defaults.values else set()
    for key, value in defaults.values.items():
        if key in accepted:
            OmegaConf.update(cfg, key, literal(value), merge=False)
    keys = declared(task, cast(dict[str, Any], OmegaConf.to_container(cfg)))
    for key, text in values.items():
        _set(cfg, key, text, keys, conf_dir=conf_dir)
    content = cast(dict[str, Any], OmegaConf.to_container(cfg))
    if missing := sorted(name for name, value in dotted(content) if value == MISSING):
        needed = ", ".join(f"{key}=..." for key in missing)
        words = " ".join([task, *(f"{key}={choice}" for key, choice in presets.items())])  # keys depend on the presets
        raise ConfigError(f"lmsearch {task} needs {needed}; see lmsearch {words} --help")
    _check(plain_config(cfg), keys)
    return cfg


@lru_cache(maxsize=16)  # a sweep composes the same files for every trial
def compose_presets(task: str, presets: tuple[tuple[str, str], ...], conf_dir: Path) -> DictConfig:
    """Let Hydra put conf/<task>.yaml and its presets together; change only copies of what it returns."""
    if task not in TASKS or not (conf_dir / f"{task}.yaml").is_file():
        raise ConfigError(f"there is no conf/{task}.yaml, so no task {task!r}")
    words = [f"{key}={choice}" for key, choice in presets]
    nothing = ", ".join(word for word in words if word.endswith("=null"))
    if is_of_rows("model", conf_dir / "model"):
        _store_models()
    try:
        with initialize_config_dir(version_base=None, config_dir=str(conf_dir.resolve())):
            return hydra_compose(config_name=task, overrides=words)
    except (HydraException, OmegaConfBaseException) as error:
        reason = str(error).strip().splitlines()[0]
        given = f" with {' '.join(words)}" if words else ""
        raise ConfigError(f"lmsearch {task}{given}: {reason}") from error
    except ValueError as error:  # Hydra's for a group that must name a preset
        if not nothing:
            raise
        raise ConfigError(f"lmsearch {task} with {nothing}: it cannot do without; see lmsearch {task} --help") from error


@lru_cache(maxsize=1)
def _store_models() -> None:
    """Give Hydra the presets that are rows and no files."""
    for name in MODELS:
        ConfigStore.instance().store(group="model", name=name, node=model_preset(name))


def _set(cfg: DictConfig, key: str, text: str, keys: Mapping[str, Key], *, conf_dir: Path) -> None:
    """Read `text` as `key` is declared and put it there."""
    head, _, leaf = key.rpartition(".")
    section = OmegaConf.select(cfg, head) if head else cfg
    if not isinstance(section, DictConfig) or leaf not in list(section):
        if owners := presets_with(key, conf_dir):
            raise OtherPresetsError(f"unknown key {key!r} with these presets; it is a key of {', '.join(owners)}")
        raise ConfigError(f"unknown key {key!r}{did_you_mean(key, keys_of(cfg))}")
    try:
        default = None if OmegaConf.is_missing(section, leaf) else section[leaf]
    except InterpolationResolutionError:  # it refers to a key that has no value yet
        default = None
    if isinstance(default, DictConfig) and default and key not in keys:
        inside = ", ".join(f"{key}.{name}" for name in map(str, default))
        raise ConfigError(f"{key} is a section, not a value; set its keys: {inside}")
    OmegaConf.update(cfg, key, literal(read_value(key, text, keys[key], default)), merge=False)


def keys_of(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every value in `cfg`."""
    for name in map(str, cfg):
        node = cfg._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation() and len(node):
            yield from keys_of(node, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def plain_config(cfg: DictConfig) -> dict[str, Any]:
    """Return a configuration as plain values, references resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))


def settings_of(kind: type[S], cfg: DictConfig) -> S:
    """Return the configuration of a task as its dataclass, below which nobody sees Hydra."""
    return kind.of(plain_config(cfg))


def compose_settings(kind: type[S], overrides: Sequence[str]) -> S:
    """Return the configuration of the task that a dataclass is of, with the `overrides` ("key=value") applied."""
    task = next(name for name, other in TASKS.items() if other is kind)
    return settings_of(kind, compose(task, overrides))


def _check(content: Mapping[str, Any], keys: Mapping[str, Key]) -> None:
    """Raise ConfigError where a key holds a value of the right type that it does not accept."""
    for name, value in dotted(content):
        if name in keys and (fault := keys[name].fault(name, value)):
            raise ConfigError(fault)
