"""Whatever a direction, genotype, list of directions, search space or model.json holds: it is read, or one line says why.

LMSEARCH_FUZZ says how many inputs each reader gets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmsearch.engine.checkpoint import ModelSpec, data_of, read_description
from lmsearch.errors import LmsearchError
from lmsearch.genotype import dumps, loads
from lmsearch.scan.directions import index_table, parse_direction
from lmsearch.search_space import load_search_space

INPUTS = int(os.environ.get("LMSEARCH_FUZZ", "200"))
MANY = settings(max_examples=INPUTS, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
NAMES = ["h", "v", "w2", "w7_flip", "h_flip", "hilbert", "snake", "w3x5", "diagonal", "spiral_flip", "mine"]
PARTS = [
    "h",
    "v",
    "w",
    "_",
    "flip",
    "x",
    "0",
    "2",
    "7",
    "99999",
    "_flip",
    "hilbert",
    "snake",
    "spiral",
    "-",
    " ",
    "é",
    "\x00",
    "/",
    "..",
]
DIRECTIONS = st.one_of(st.lists(st.sampled_from(PARTS), max_size=6).map("".join), st.text(max_size=12), st.sampled_from(NAMES))
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.sampled_from([10**400, -1, 1e308, float("inf"), float("nan"), 2**63]),
    st.floats(allow_nan=True), DIRECTIONS,
)  # fmt: skip
VALUES = st.recursive(
    PLAIN, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(DIRECTIONS, inner, max_size=3)), max_leaves=6
)
GENOTYPE: dict[str, Any] = {
    "schema": "lmsearch.genotype", "version": 1, "model": "local_vim_nano", "search_space": "small4", "keep": 2,
    "layers": [{"name": "layers.0", "directions": ["h", "v"], "scores": {"h": 0.5, "v": 0.3, "w2": 0.2}, "margin": 0.1}],
    "derivation": {"method": "topk"}, "health": {"status": "ok", "reason": "fine", "findings": []}, "provenance": {"seed": 0},
}  # fmt: skip
SPACE: dict[str, Any] = {
    "name": "mine", "candidates": ["h", "v", "w2", "around"], "keep": 2,
    "orders": {"around": {"2x2": [0, 1, 3, 2], "1x2": "1 0"}},
}  # fmt: skip
INFO = {
    "name": "digits", "num_classes": 2, "class_names": ["a", "b"], "img_size": [8, 8], "in_chans": 1, "mean": [0.0],
    "std": [1.0], "target": "class",
}  # fmt: skip
SPEC = ModelSpec(
    "local_vim_nano", (("h", "v"),), "sum", {"depth": 1, "embed_dim": 8}, {"info": INFO, "source": {"name": "digits"}}
)


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in nested dicts and lists, the whole included."""
    found = [path]
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        found += places(value, (*path, key))
    return found


def changed(content: Any, path: tuple[Any, ...], value: Any, how: str) -> Any:
    """Return nested values with one replaced, dropped or added beside."""
    if not path:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    if len(path) > 1:
        copy[path[0]] = changed(content[path[0]], path[1:], value, how)
    elif how == "drop":
        del copy[path[0]]
    elif how == "add" and isinstance(copy, dict):
        copy[str(value)[:20]] = value
    else:
        copy[path[0]] = value
    return copy


def texts(content: Any) -> st.SearchStrategy[str]:
    """Return texts near a JSON text: with up to two values changed, and then cut, with letters put in, or as they are."""
    where = st.sampled_from(places(content))
    change = st.tuples(where, VALUES, st.sampled_from(["replace", "drop", "add"]))
    torn = st.one_of(st.none(), st.tuples(st.floats(0, 1), st.text(max_size=3), st.booleans()))

    def text(changes: list[Any], tear: Any) -> str:
        made = content
        for path, value, how in changes:
            if path in places(made):
                made = changed(made, path, value, how)
        written = json.dumps(made)
        if tear is None:
            return written
        place = int(tear[0] * len(written))
        return written[:place] + tear[1] + (written[place:] if tear[2] else "")

    return st.one_of(st.builds(text, st.lists(change, max_size=2), torn), st.text(max_size=30))


def one_line(read: Callable[[], object]) -> None:
    """Read; an error of a user's in one line of bounded length is the only one that may come."""
    try:
        read()
    except LmsearchError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000 and str(error)


def test_what_is_changed_can_be_read_as_it_is(tmp_path: Path) -> None:
    reread(json.dumps(GENOTYPE))
    (tmp_path / "space.yaml").write_text(json.dumps(SPACE))
    assert load_search_space(tmp_path / "space.yaml").keep == 2
    (tmp_path / "model.json").write_text(json.dumps({"version": 1} | asdict(SPEC)))
    spec, _ = read_description(tmp_path / "model.json")
    assert spec == SPEC and data_of(spec, source="model.json").num_classes == 2


@pytest.mark.slow
@MANY
@given(name=DIRECTIONS)
def test_any_name_of_a_direction(name: str) -> None:
    def read() -> None:
        parse_direction(name)
        index_table((name,), (4, 6))

    one_line(read)


def reread(text: str) -> None:
    """Read a genotype, and again what is written of it, with its numbers rounded."""
    written = dumps(loads(text))
    assert dumps(loads(written)) == written


@pytest.mark.slow
@MANY
@given(text=texts(GENOTYPE))
def test_any_genotype(text: str) -> None:
    one_line(lambda: reread(text))


@pytest.mark.slow
@MANY
@given(text=texts([["h", "v"], ["w2", "w7_flip"], ["snake"]]))
def test_any_list_of_directions(text: str) -> None:
    one_line(lambda: reread(text))


@pytest.mark.slow
@MANY
@given(text=texts(SPACE))
def test_any_search_space(tmp_path: Path, text: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    one_line(lambda: load_search_space(path))


@pytest.mark.slow
@MANY
@given(text=texts(json.loads(json.dumps({"version": 1} | asdict(SPEC)))))
def test_any_description_of_a_model(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))

    def read() -> None:
        spec, _ = read_description(path)
        data_of(spec, source="model.json")
        with torch.device("meta"):
            spec.build()

    one_line(read)
