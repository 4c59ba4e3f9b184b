"""Search spaces: which scan directions each layer may choose from, and how many it keeps.

A search space is a YAML file with the keys `name`, `candidates` (a list of directions, or one list per layer) and
`keep` (one number, or one per layer), and optionally `orders`: scan orders of one's own, as tables
(lmsearch/scan/files.py). Grids are (H, W) token maps.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmsearch.errors import DirectionError, SearchSpaceError, did_you_mean, short
from lmsearch.paths import data_dir
from lmsearch.plain import plain_numbers
from lmsearch.reading import is_file, parse_yaml, read_text, user_path
from lmsearch.scan.directions import duplicates, label, parse_direction
from lmsearch.scan.files import named_direction, read_orders
from lmsearch.scan.grids import Grid, grid_text

KEYS = ("name", "candidates", "keep")
ACCEPTED = (*KEYS, "orders")


@dataclass(frozen=True)
class SearchSpace:
    """Candidates in index order (ties in a search go to the earlier one) and the number each layer keeps.

    `per_layer` holds one candidate list per layer where they differ; `candidates` is then their union. `where` is the
    file's name in errors; `orders` are its own scan orders, {name in the file: canonical name}.
    """

    name: str
    candidates: tuple[str, ...]
    keep: int | tuple[int, ...]
    per_layer: tuple[tuple[str, ...], ...] | None = None
    where: str = field(default="search space", compare=False)
    orders: Mapping[str, str] = field(default_factory=dict, compare=False)

    def layer_candidates(self, depth: int) -> tuple[tuple[str, ...], ...]:
        """Return the candidates of each of `depth` layers; raise SearchSpaceError where the file lists another depth."""
        if self.per_layer is None:
            return (self.candidates,) * depth
        if len(self.per_layer) != depth:
            raise SearchSpaceError(
                f"search space {self.name}: candidates are listed for {len(self.per_layer)} layers, the model has {depth}"
            )
        return self.per_layer

    def first(self, depth: int) -> SearchSpace:
        """Return the space of the first `depth` layers, where the file lists layers one by one; else the whole space."""
        keep = self.keep if isinstance(self.keep, int) else self.keep[:depth]
        return replace(self, per_layer=None if self.per_layer is None else self.per_layer[:depth], keep=keep)

    def direction(self, name: str) -> str:
        """Return the canonical name of a direction, built in or of this space's own orders; raise DirectionError for others."""
        return named_direction(name, self.orders)

    def candidates_on(self, grids: Sequence[Grid]) -> tuple[tuple[str, ...], ...]:
        """Return the candidates of layers with these token grids; raise SearchSpaceError where one has no order there."""
        listed = self.layer_candidates(len(grids))
        for layer, (names, grid) in enumerate(zip(listed, grids, strict=True)):
            for name in names:
                try:
                    parse_direction(name).check_grid(grid)
                except DirectionError as error:
                    raise SearchSpaceError(f"{self.where}: layer {layer} of the model: {error}") from None
        return listed

    def duplicates(self, grid: Grid, *, padding: str = "none") -> dict[str, str]:
        """Map each candidate that visits `grid` exactly as an earlier one does to that earlier one."""
        return duplicates(self.candidates, grid, padding=padding)


def load_search_space(name_or_path: str | Path) -> SearchSpace:
    """Load a shipped search space by name, or any YAML file by path; raise SearchSpaceError with one clear line."""
    if not isinstance(name_or_path, str | os.PathLike):
        hint = "candidates of your own are a SearchSpace(name, candidates, keep)"
        raise SearchSpaceError(f"search space {short(name_or_path)} is neither a shipped name nor a YAML file; {hint}")
    shipped = shipped_search_spaces()
    if str(name_or_path) in shipped:
        return _read(shipped[str(name_or_path)], where=f"search_spaces/{name_or_path}.yaml")
    path = user_path(name_or_path)
    if not is_file(path):
        near = did_you_mean(str(name_or_path), shipped)
        raise SearchSpaceError(f"search space {str(name_or_path)!r} is neither a shipped name nor a YAML file{near}")
    return _read(path, where=str(name_or_path))


def shipped_search_spaces() -> dict[str, Path]:
    """Return the shipped search spaces, name to file."""
    return {path.stem: path for path in sorted(data_dir("search_spaces").glob("*.yaml"))}


def resolve_keep(
    space: SearchSpace,
    keep: int | Sequence[int] | None,
    depth: int,
    *,
    grids: Sequence[Grid] | None = None,
    padding: str = "none",
) -> tuple[int, ...]:
    """Return how many directions each of `depth` layers keeps.

    `keep` is one number, one per layer, or None for the space's own. With `grids` (one per layer), candidates that
    visit a layer's grid in the same order count once; without, every candidate counts.
    """
    listed = space.layer_candidates(depth) if grids is None else space.candidates_on(grids)
    where = f"search space {space.name}: keep" if keep is None else "keep"
    chosen = _keep(space.keep if keep is None else keep, where=where)
    per_layer = (chosen,) * depth if isinstance(chosen, int) else chosen
    if len(per_layer) != depth:
        raise SearchSpaceError(f"{where} lists {len(per_layer)} numbers, the model has {depth} layers")
    for layer, (number, candidates) in enumerate(zip(per_layer, listed, strict=True)):
        same = {} if grids is None else duplicates(candidates, grids[layer], padding=padding)
        if number > len(candidates) - len(same):
            raise SearchSpaceError(_too_many(space, number, layer, candidates, same, grids))
    return per_layer


def _too_many(
    space: SearchSpace,
    number: int,
    layer: int,
    candidates: tuple[str, ...],
    same: dict[str, str],
    grids: Sequence[Grid] | None,
) -> str:
    """Return the line that says why layer `layer` cannot keep `number` directions."""
    text = f"keep={number} is larger than the {len(candidates) - len(same)} distinct candidates of layer {layer}"
    if same and grids is not None:
        pairs = ", ".join(f"{label(a)} = {label(b)}" for a, b in same.items())
        text += f" ({grid_text(grids[layer])} tokens make {pairs})"
    return f"{text}; search space {space.name} lists {', '.join(map(label, candidates))}"


def _read(path: Path, *, where: str) -> SearchSpace:
    """Read and check one search space file; `where` names it in errors."""
    text = read_text(path, where=where, error=SearchSpaceError)
    content = parse_yaml(text, where=where, error=SearchSpaceError)
    if not isinstance(content, dict):
        raise SearchSpaceError(f"{where}: a search space is a mapping with the keys {', '.join(KEYS)}")
    for key in content:
        if key not in ACCEPTED:
            raise SearchSpaceError(f"{where}: unknown key {short(key)}; accepted: {', '.join(ACCEPTED)}")
    for key in KEYS:
        if content.get(key) is None:
            raise SearchSpaceError(f"{where}: the key {key!r} is missing; needed: {', '.join(KEYS)}")
    if not isinstance(content["name"], str):
        raise SearchSpaceError(f"{where}: name {short(content['name'])} is not text")
    try:
        orders = read_orders(content.get("orders", {}), folder=path.parent)
    except DirectionError as error:
        raise SearchSpaceError(f"{where}: {error}") from None
    per_layer = _per_layer(content["candidates"], orders, where=where)
    keep = _keep(content["keep"], where=f"{where}: keep")
    _check_keep_fits(keep, per_layer, listed=_is_nested(content["candidates"]), where=where)
    union = tuple(dict.fromkeys(c for layer in per_layer for c in layer))
    return SearchSpace(content["name"], union, keep, per_layer if _is_nested(content["candidates"]) else None, where, orders)


def _is_nested(candidates: list[Any]) -> bool:
    """Tell whether candidates are listed per layer."""
    return isinstance(candidates[0], list)


def _per_layer(candidates: Any, orders: Mapping[str, str], *, where: str) -> tuple[tuple[str, ...], ...]:
    """Check the candidates and return one tuple per listed layer (one tuple in all where every layer shares them)."""
    if not isinstance(candidates, list) or not candidates:
        given = short(candidates)
        raise SearchSpaceError(f"{where}: candidates must be a list of directions, or one list per layer; got {given}")
    if not _is_nested(candidates):
        return (_candidates(candidates, orders, where=where),)
    layers = []
    for number, layer in enumerate(candidates):
        at = f"{where}: layer {number}"
        if not isinstance(layer, list) or not layer:
            raise SearchSpaceError(f"{at}: candidates must be a list of directions; got {short(layer)}")
        layers.append(_candidates(layer, orders, where=at))
    return tuple(layers)


def _candidates(names: list[Any], orders: Mapping[str, str], *, where: str) -> tuple[str, ...]:
    """Return the canonical names of one candidate list; raise SearchSpaceError for other text and for repeats."""
    canonical: dict[str, Any] = {}
    for name in names:
        if not isinstance(name, str):
            expected = "which is text such as h or w2_flip"
            raise SearchSpaceError(f"{where}: candidate {short(name)} is not a scan direction, {expected}")
        try:
            direction = named_direction(name, orders)
        except DirectionError as error:
            raise SearchSpaceError(f"{where}: candidate {error}") from None
        if direction in canonical:
            first = short(canonical[direction])
            raise SearchSpaceError(f"{where}: candidate {short(name)} repeats {first}; list each direction once")
        canonical[direction] = name
    return tuple(canonical)


def _keep(keep: Any, *, where: str) -> int | tuple[int, ...]:
    """Return keep as an int or a tuple of ints, each at least 1."""
    keep = plain_numbers(keep)
    numbers = list(keep) if isinstance(keep, Sequence) and not isinstance(keep, str) else [keep]
    if not numbers or any(type(n) is not int or n < 1 for n in numbers):
        shown = numbers if numbers != [keep] else keep
        raise SearchSpaceError(f"{where}: {short(shown)} is neither a whole number of at least 1 nor one such number per layer")
    return keep if isinstance(keep, int) else tuple(numbers)


def _check_keep_fits(keep: int | tuple[int, ...], per_layer: tuple[tuple[str, ...], ...], *, listed: bool, where: str) -> None:
    """Raise SearchSpaceError where keep asks for more directions than a layer lists, or for another number of layers."""
    if isinstance(keep, tuple) and listed and len(keep) != len(per_layer):
        raise SearchSpaceError(f"{where}: keep lists {len(keep)} layers, candidates list {len(per_layer)}")
    numbers = (keep,) if isinstance(keep, int) else keep
    if not listed or isinstance(keep, int):
        pairs = [(max(numbers), layer) for layer in per_layer]
    else:
        pairs = list(zip(numbers, per_layer, strict=True))
    for number, layer in pairs:
        if number > len(layer):
            names = ", ".join(map(label, layer))
            raise SearchSpaceError(f"{where}: keep {number} is larger than the {len(layer)} candidates {names}")
