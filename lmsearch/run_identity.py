"""What makes a run the one it is: what of a configuration decides the result, its digest, and how two runs differ."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lmsearch.config import ADDED_KEYS, NOT_IN_DIGEST, OPEN_ENDED
from lmsearch.words import as_text

LONGEST_VALUE = 60  # characters of a value in a message


def identity_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides the result: a resolved configuration without NOT_IN_DIGEST and the defaults of ADDED_KEYS."""
    return _as_before({key: value for key, value in content.items() if key not in NOT_IN_DIGEST})


def _as_before(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values without the defaults of ADDED_KEYS, and without the sections that this empties."""
    kept = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        inside = _as_before(value, f"{name}.") if isinstance(value, dict) else value
        if not (name in ADDED_KEYS and value == ADDED_KEYS[name]) and (inside != {} or value == {}):
            kept[key] = inside
    return kept


def config_digest(cfg: DictConfig) -> str:
    """Return the SHA-256 of what decides the result: the resolved configuration without run_dir, device, workers and such."""
    content = OmegaConf.to_container(cfg, resolve=True)
    return hashlib.sha256(json.dumps(identity_of(content), sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def run_digest(cfg: DictConfig) -> str:
    """Return the digest of what a run is, genotypes' `run_sha256`: with more of OPEN_ENDED it is the same run, continued."""
    endless = copy.deepcopy(cfg)
    for key in OPEN_ENDED:
        if OmegaConf.select(endless, key) is not None:
            OmegaConf.update(endless, key, None)
    return config_digest(endless)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a text for every key that makes two resolved configurations two runs: "epochs=40 there, 60 here"."""
    there, here = (dict(_flat(identity_of(content))) for content in (before, now))
    keys = [key for key in (there | here) if key not in OPEN_ENDED and there.get(key) != here.get(key)]
    return [f"{key}={_shown(there, key)} there, {_shown(here, key)} here" for key in keys]


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values under dotted names."""
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(values: Mapping[str, Any], key: str) -> str:
    """Return a value as it is typed, shortened."""
    if key not in values:
        return "(unset)"
    text = as_text(values[key])
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
