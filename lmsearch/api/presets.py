"""search=...: a preset of conf/search/, an architect or a relaxation, as the options of a supernet search."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lmsearch.errors import ConfigError, did_you_mean, short
from lmsearch.paths import data_dir
from lmsearch.reading import read_yaml
from lmsearch.search.architects.kinds import ArchitectKind, check_architect
from lmsearch.search.supernet.options import SearchOptions
from lmsearch.search.supernet.relax import Relaxation, check_relaxation

LEARNING, WITHOUT_ALPHAS = "darts", "fair"  # presets that an architect or a relaxation of one's own goes with
SELF = "_self_"


@dataclass(frozen=True)
class Preset:
    """How a supernet is searched and derived from."""

    options: SearchOptions
    derivation: str
    deduplicate: bool
    partial_channels: int


def preset_of(given: str | ArchitectKind | Relaxation) -> Preset:
    """Return the preset of a name, or the one that an architect or a relaxation of one's own goes with.

    Raises ConfigError for an unknown name, one that searches no supernet, and what misses part of the contract.
    """
    if isinstance(given, str):
        return preset_from(read_preset(given))
    if any(hasattr(given, name) for name in ("weights", "probabilities")):
        check_relaxation(given)
        part = {"relaxation": given}
    elif any(hasattr(given, name) for name in ("build", "passes")):
        check_architect(given)
        part = {"architect": given}
    else:
        names = ", ".join(supernet_presets())
        raise ConfigError(f"search={short(given)} is not accepted; expected an architect, a relaxation, or one of {names}")
    return preset_from(read_preset(LEARNING if given.learns else WITHOUT_ALPHAS) | part)


def preset_from(values: dict[str, Any]) -> Preset:
    """Return the values of a preset as what they mean."""
    options = SearchOptions(**{f.name: values[f.name] for f in fields(SearchOptions)})
    return Preset(options, values["derivation"], values["deduplicate"], values["partial_channels"])


def read_preset(name: str) -> dict[str, Any]:
    """Return the values of a preset of a supernet search; raise ConfigError for any other name."""
    accepted = supernet_presets()
    if name not in accepted:
        raise ConfigError(f"search={name!r} is not accepted{did_you_mean(name, accepted)}")
    return values_of(folder() / f"{name}.yaml")


def supernet_presets() -> list[str]:
    """Return the names of the presets that search a supernet."""
    return [path.stem for path in sorted(folder().glob("*.yaml")) if values_of(path)["method"] == "supernet"]


def folder() -> Path:
    """Return the folder of the presets."""
    return data_dir("conf") / "search"


def values_of(path: Path) -> dict[str, Any]:
    """Return the values of a preset over those of the presets that it builds on."""
    own = read_yaml(path, error=ConfigError)
    values: dict[str, Any] = {}
    for base in own.pop("defaults", []):
        if base != SELF:
            values |= values_of(path.with_name(f"{base}.yaml"))
    return values | own
