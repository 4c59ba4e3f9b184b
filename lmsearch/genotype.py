"""Genotypes: the scan directions chosen for every layer, and the genotype.json that carries them.

Only `schema`, `version` and `layers[].directions` are required, so that a person can write one by hand:
{"schema": "lmsearch.genotype", "version": 1, "layers": [{"directions": ["h", "v_flip"]}, ...]}
Scan orders of a user's own stand under `orders` with their tables (lmsearch/scan/files.py); in memory, a direction's
name carries them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmsearch.errors import DirectionError, GenotypeError, did_you_mean, short
from lmsearch.files import write_text
from lmsearch.genotype_schema import SCHEMA, VERSION, check, plain, read_direction_lists
from lmsearch.paths import BESIDE, PACKAGE, WEIGHTS
from lmsearch.reading import is_file, is_folder, parse_json, read_text, user_path
from lmsearch.scan.directions import label
from lmsearch.scan.files import named_direction, read_orders, write_orders

FILE = "genotype.json"
LIST_SUFFIXES = (".py", ".txt")
EXPECTED = f"expected a run directory, its {FILE}, or direction lists in a .json, .txt or .py file"


@dataclass(frozen=True)
class LayerChoice:
    """The directions of one layer in candidate order, with the score of every candidate and the margin of the choice."""

    directions: tuple[str, ...]
    name: str = ""  # in the model; empty where the file names none
    scores: Mapping[str, float] = field(default_factory=dict)
    margin: float | None = None


@dataclass(frozen=True)
class Genotype:
    """The directions of every layer, and where they came from. It binds to a model's depth, never to its width."""

    layers: tuple[LayerChoice, ...]
    model: str | None = None
    search_space: str | None = None
    keep: int | tuple[int, ...] | None = None
    derivation: Mapping[str, Any] = field(default_factory=dict)
    health: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def directions(self) -> tuple[tuple[str, ...], ...]:
        """The direction names of every layer, as create_model takes them."""
        return tuple(layer.directions for layer in self.layers)

    @classmethod
    def from_directions(cls, directions: Sequence[Sequence[str]], *, where: str = "genotype") -> Genotype:
        """Return the genotype with one list of directions per layer.

        Raises GenotypeError where they are no lists, and where a name is not a direction.
        """
        if isinstance(directions, str) or not isinstance(directions, Iterable):
            raise GenotypeError(f"{where}: expected one list of directions per layer, got {short(directions)}")
        layers = []
        for number, layer in enumerate(directions):
            if isinstance(layer, str) or not isinstance(layer, Iterable):
                raise GenotypeError(f"{where}: layer {number}: expected a list of directions, got {short(layer)}")
            layers.append({"directions": list(layer)})
        return _from_dict({"schema": SCHEMA, "version": VERSION, "layers": layers}, where=where)


def load_genotype(source: str | Path, *, also: Iterable[str] = ()) -> Genotype:
    """Load a genotype from a shipped name, a genotype.json, a run directory, or a file with nested direction lists.

    `also` are other names that the caller accepts. Raises GenotypeError with one line that names the file, the layer, the value
    and what is accepted.
    """
    if not isinstance(source, str | os.PathLike):
        raise GenotypeError(f"genotype {short(source)} is neither a shipped name nor a file or run directory")
    shipped = shipped_genotypes()
    if str(source) in shipped:
        return _read(shipped[str(source)], where=str(source))
    path = user_path(source)
    if is_folder(path):
        path = path / FILE
        if not is_file(path):
            raise GenotypeError(f"{source}: the folder holds no {FILE}; give a file or the folder of a search that has ended")
    if not is_file(path):
        near = did_you_mean(str(source), [*also, *shipped])
        raise GenotypeError(f"genotype {str(source)!r} is neither a shipped name nor a file or run directory{near}")
    return _read(path, where=str(path))


def shipped_genotypes() -> dict[str, Path]:
    """Return the published genotypes that ship with the package: "localmamba/local_vim_tiny" and so on, name to file."""
    root = PACKAGE / "published"
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.glob("*/*.json"))}


def save_genotype(genotype: Genotype, path: str | Path) -> None:
    """Write `genotype` as JSON; the same genotype always gives the same bytes."""
    write_text(path, dumps(genotype))


def dumps(genotype: Genotype) -> str:
    """Return the JSON text of `genotype`: sorted keys, two spaces, floats rounded to six digits, a newline at the end."""
    content: dict[str, Any] = {"schema": SCHEMA, "version": VERSION, "layers": [_layer_dict(x) for x in genotype.layers]}
    for key in ("model", "search_space", "keep", "derivation", "health", "provenance"):
        value = getattr(genotype, key)
        if value is not None and value != {}:
            content[key] = value
    names = dict.fromkeys(name for layer in genotype.layers for name in (*layer.directions, *layer.scores))
    try:
        orders, labels = write_orders(names)
    except DirectionError as error:
        raise GenotypeError(f"genotype: {error}") from None
    if orders:
        content = _renamed(content, labels) | {"orders": orders}
    content = plain(content, where="genotype")
    check(content, where="genotype")
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def loads(text: str, *, where: str = "genotype") -> Genotype:
    """Return the genotype that the JSON `text` holds; `where` names it in errors."""
    return _from_dict(parse_json(text, where=where, error=GenotypeError), where=where)


def check_depth(genotype: Genotype, depth: int, model_name: str, *, where: str = "genotype") -> None:
    """Raise GenotypeError unless `genotype` lists directions for exactly the `depth` layers of the model."""
    if len(genotype.layers) != depth:
        raise GenotypeError(
            f"{where}: directions are listed for {len(genotype.layers)} layers, but {model_name} has {depth} layers"
        )


def _read(path: Path, *, where: str) -> Genotype:
    """Read a genotype.json or a file of nested direction lists, told apart by its first character."""
    if path.suffix in WEIGHTS:
        raise GenotypeError(f"{where}: holds weights, not directions; {EXPECTED}")
    try:
        return _parsed(path, where=where)
    except GenotypeError as error:
        if path.suffix in BESIDE:
            raise GenotypeError(f"{where}: a {path.suffix} file that holds no directions; {EXPECTED}") from error
        raise


def _parsed(path: Path, *, where: str) -> Genotype:
    """Read the text of a genotype or of direction lists."""
    text = read_text(path, where=where, error=GenotypeError)
    if path.suffix in LIST_SUFFIXES or text.lstrip()[:1] in ("[", "("):
        return Genotype.from_directions(read_direction_lists(text, where=where), where=where)
    return loads(text, where=where)


def _renamed(content: Any, labels: Mapping[str, str]) -> Any:
    """Return JSON content with every text that is a key of `labels` replaced by its label."""
    if isinstance(content, str):
        return labels.get(content, content)
    if isinstance(content, Mapping):
        return {_renamed(key, labels): _renamed(value, labels) for key, value in content.items()}
    return [_renamed(value, labels) for value in content] if isinstance(content, Sequence) else content


def _layer_dict(layer: LayerChoice) -> dict[str, Any]:
    """Return one layer as JSON content, without what is not known."""
    content: dict[str, Any] = {"directions": layer.directions}
    if layer.name:
        content["name"] = layer.name
    if layer.scores:
        content["scores"] = layer.scores
    if layer.margin is not None:
        content["margin"] = layer.margin
    return content


def _from_dict(content: Any, *, where: str) -> Genotype:
    """Check parsed JSON content and freeze it."""
    check(content, where=where)
    try:
        orders = read_orders(content.get("orders", {}))
    except DirectionError as error:
        raise GenotypeError(f"{where}: {error}") from None
    layers = tuple(_layer(x, orders, where=f"{where}: layer {number}") for number, x in enumerate(content["layers"]))
    keep = content.get("keep")
    return Genotype(
        layers=layers,
        model=content.get("model"),
        search_space=content.get("search_space"),
        keep=tuple(keep) if isinstance(keep, list) else keep,
        derivation=content.get("derivation", {}),
        health=content.get("health", {}),
        provenance=content.get("provenance", {}),
    )


def _layer(layer: dict[str, Any], orders: Mapping[str, str], *, where: str) -> LayerChoice:
    """Freeze one checked layer, its directions under their canonical names."""
    directions = tuple(_direction(name, orders, where=where) for name in layer["directions"])
    if len(set(directions)) != len(directions):
        raise GenotypeError(f"{where}: a direction is listed twice in {', '.join(map(label, directions))}; list each once")
    listed = layer.get("scores", {})
    scores = {_direction(name, orders, where=f"{where}, scores"): float(score) for name, score in listed.items()}
    if missing := [label(name) for name in directions if scores and name not in scores]:
        raise GenotypeError(f"{where}: scores must list every candidate; {', '.join(missing)} has none")
    margin = layer.get("margin")
    return LayerChoice(directions, layer.get("name", ""), scores, None if margin is None else float(margin))


def _direction(name: str, orders: Mapping[str, str], *, where: str) -> str:
    """Return the canonical name of a direction."""
    try:
        return named_direction(name, orders)
    except DirectionError as error:
        raise GenotypeError(f"{where}: {error}") from None
