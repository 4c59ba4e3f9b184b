"""What makes a run the one it is: what of a configuration decides the result, its digest, and how two runs differ.

Keys that say how a run is carried out never count. Those that came after version 0.1.0 count only with another value than the one
that does what 0.1.0 did, so that its folders go on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lmsearch.settings.catalogue import declared_anywhere
from lmsearch.settings.fields import Key
from lmsearch.words import as_text, dotted

LONGEST_VALUE = 60  # characters of a value in a message


def identity_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a configuration decides the result, without the sections that this empties."""
    return _decisive(content, declared_anywhere())


def _decisive(content: Mapping[str, Any], keys: Mapping[str, Key], prefix: str = "") -> dict[str, Any]:
    """Return the nested values that count."""
    kept = {}
    for name, value in content.items():
        key = keys.get(f"{prefix}{name}")
        inside = _decisive(value, keys, f"{prefix}{name}.") if isinstance(value, Mapping) else value
        ignored = key is not None and (not key.counts or value in key.added)
        if not ignored and (inside != {} or value == {}):
            kept[name] = inside
    return kept


def config_digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what decides the result: the configuration without run_dir, device, workers and such."""
    text = json.dumps(identity_of(content), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def run_digest(content: Mapping[str, Any]) -> str:
    """Return the digest of what a run is, genotypes' `run_sha256`: with more of an endless key it is the same run, continued."""
    return config_digest(_without_end(content, declared_anywhere()))


def _without_end(content: Mapping[str, Any], keys: Mapping[str, Key], prefix: str = "") -> dict[str, Any]:
    """Return nested values with null for those that a run may be given more of."""
    changed: dict[str, Any] = {}
    for name, value in content.items():
        key = keys.get(f"{prefix}{name}")
        inside = _without_end(value, keys, f"{prefix}{name}.") if isinstance(value, Mapping) else value
        changed[name] = None if key is not None and key.endless else inside
    return changed


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a text for every key that makes two resolved configurations two runs: "epochs=40 there, 60 here"."""
    there, here = (dict(dotted(identity_of(content))) for content in (before, now))
    keys, known = [key for key in (there | here) if there.get(key) != here.get(key)], declared_anywhere()
    decisive = [key for key in keys if key not in known or not known[key].endless]
    all_there, all_here = (dict(dotted(content)) for content in (before, now))
    return [f"{key}={_shown(all_there, key)} there, {_shown(all_here, key)} here" for key in decisive]


def taken_further(before: Mapping[str, Any], now: Mapping[str, Any], *, also: Sequence[str] = ()) -> list[str]:
    """Return a text for every endless key, and those of `also`, with another value than before: "seeds=1 before, 5 now"."""
    there, here = (dict(dotted(content)) for content in (before, now))
    endless = {*also, *(name for name, key in declared_anywhere().items() if key.endless)}
    keys = [key for key in here if key in endless and key in there and there[key] != here[key]]
    return [f"{key}={_shown(there, key)} before, {_shown(here, key)} now" for key in keys]


def _shown(values: Mapping[str, Any], key: str) -> str:
    """Return a value as it is typed, shortened."""
    if key not in values:
        return "(unset)"
    text = as_text(values[key])
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
