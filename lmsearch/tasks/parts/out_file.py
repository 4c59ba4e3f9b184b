"""The file that a key such as `out` names, before anything is made for it."""

from __future__ import annotations

from pathlib import Path

from lmsearch.errors import ConfigError


def out_file(value: str, *, key: str = "out", overwrite: bool) -> Path:
    """Return the path; raise ConfigError for a folder and, unless `overwrite`, for a file that is there already."""
    path = Path(value)
    if path.is_dir():
        raise ConfigError(f"{key}={value!r} is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise ConfigError(f"{key}={value!r} exists already; name another file, or set overwrite=true to replace it")
    return path
