"""What a run directory or a file with weights says of its data and its network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmsearch.errors import ConfigError, DataError, short
from lmsearch.genotype import FILE
from lmsearch.paths import is_exported
from lmsearch.reading import is_file, is_folder, parse_yaml, read_text
from lmsearch.words import dotted

CONFIG = "config.yaml"  # of a run directory
FROM_DATA = ("img_size", "in_chans", "num_classes")  # options of a network that its data decide
NOTHING: dict[str, Any] = {"data": {}, "model": {}, "info": {}, "search_space": None}  # what a config.yaml of others says


@dataclass(frozen=True)
class Facts:
    """What a run knows: options of its data source and of its model, the description of its data, and its search space.

    `preset` is the preset of its data, where they have one of another name than their kind's.
    """

    data: Mapping[str, Any]
    model: Mapping[str, Any]
    info: Mapping[str, Any]
    search_space: str | None = None
    preset: str | None = None

    def image(self, names: Sequence[str]) -> dict[str, Any]:
        """Return those of `names` that the description of the data holds, a square's size as one side."""
        values = {name: self.info[name] for name in names if name in self.info}
        if len(set(values.get("img_size", ()))) == 1:
            values["img_size"] = values["img_size"][0]
        return values

    def sections(self) -> dict[str, Any]:
        """Return the sections of a config.yaml from which `read_facts` reads them again."""
        data = dict(self.data) | ({} if self.preset is None else {"preset": self.preset})
        return {"data": data, "model": dict(self.model), "info": dict(self.info), "search_space": self.search_space}


def unlike(one: Facts, other: Facts) -> list[str]:
    """Return a text for every key of data and model that both know otherwise; where the data lie tells nothing of them."""
    there, here = (dict(dotted(facts.sections())) for facts in (one, other))
    keys = [key for key in there if key in here and key != "data.root" and json.dumps(there[key]) != json.dumps(here[key])]
    return [f"{key}={short(there[key])} and {short(here[key])}" for key in keys]


def read_facts(path: Path) -> Facts | None:
    """Read what a run directory or a file with weights says of data and model; None for a folder that says nothing.

    A config.yaml that cannot be read as a run's is an error in a run, or where nothing else tells what is there.
    """
    from lmsearch.engine.checkpoint import ModelSpec, data_of, read_model  # imports PyTorch
    from lmsearch.export.loaded import describe_exported

    file = path / CONFIG if is_folder(path) else path.with_name(CONFIG)
    described = path if is_file(path) else _described(path)
    told = described is not None or is_file(path / FILE)
    config = NOTHING
    with suppress(ConfigError) if told and not _is_of_run(file) else nullcontext():
        config = _read_config(file)
        if described is None:
            return _configured(config, file) if config["model"] else None
    if described is None:
        return None
    spec: ModelSpec = describe_exported(described).spec if is_exported(described) else read_model(described)[0]
    if spec.data.get("info"):
        data_of(spec, source=str(described))
    model = {"name": spec.name} | {k: v for k, v in spec.options.items() if k not in FROM_DATA}
    source = spec.data.get("source") or {}
    preset = _preset_in(config, file) if config["data"].get("name") == source.get("name") else None
    return Facts(source, model, spec.data.get("info") or {}, config["search_space"], preset)


def _is_of_run(file: Path) -> bool:
    """Tell whether a config.yaml, which may be damaged, is a run's, and not somebody's beside files of a run."""
    from lmsearch.report.page.folder import MARKER  # imports NumPy

    if file.with_name(MARKER).exists():
        return True
    try:
        return is_file(file) and re.search(rb"^run_dir:", file.read_bytes(), re.MULTILINE) is not None
    except OSError:
        return False


def _preset_in(config: Mapping[str, Any], file: Path) -> str | None:
    """Return what the data of a run were called, where that is not the name of their kind."""
    preset = config["data"].get("preset")
    if preset is not None and not isinstance(preset, str):
        raise ConfigError(f"{file}: data.preset is {short(preset)}; expected text")
    return preset


def _configured(config: Mapping[str, Any], file: Path) -> Facts:
    """Return the facts in the sections of a run's config.yaml; raise ConfigError where they name no data, or wrong ones."""
    from lmsearch.data import DataInfo, check_described  # imports PyTorch

    if not isinstance(config["model"].get("name", ""), str):
        raise ConfigError(f"{file}: model.name is {short(config['model']['name'])}; expected text")
    try:
        if config["data"]:
            check_described(config["data"])
        if config["info"]:
            DataInfo.from_dict(config["info"])
    except DataError as error:
        raise ConfigError(f"{file}: {error}") from error
    data = {name: value for name, value in config["data"].items() if name != "preset"}
    return Facts(data, config["model"], config["info"], config["search_space"], _preset_in(config, file))


def _described(folder: Path) -> Path | None:
    """Return the file of a run directory that describes its network; that of the first seed, where it holds several."""
    files = [folder / "model.safetensors", folder / "checkpoint.pt", *sorted(folder.glob("s[0-9]*/checkpoint.pt"))]
    return next((file for file in files if is_file(file)), None)


def _read_config(path: Path) -> dict[str, Any]:
    """Return the sections of a run's config.yaml that others read, without unset keys; empty ones where there is no file."""
    content: Any = {}
    if is_file(path):
        text = read_text(path, where=str(path), error=ConfigError)
        content = parse_yaml(text, where=str(path), error=ConfigError)
    content = content if isinstance(content, dict) else {}
    sections = {name: content.get(name) or {} for name in ("data", "model", "info")}
    if wrong := [name for name, section in sections.items() if not isinstance(section, dict)]:
        raise ConfigError(f"{path}: {wrong[0]} is not a section of keys")
    kept = {name: {k: v for k, v in section.items() if v is not None} for name, section in sections.items()}
    space = content.get("search_space")
    return kept | {"search_space": space if isinstance(space, str) else None}
