"""Genotype files: byte-stable, written by hand, checked line by line, and LocalMamba's nested lists."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsearch.errors import GenotypeError
from lmsearch.genotype import (
    Genotype,
    LayerChoice,
    check_depth,
    dumps,
    load_genotype,
    loads,
    save_genotype,
    shipped_genotypes,
)

DEPTHS = {"local_vim": 20, "local_vmamba_tiny": 15, "local_vmamba_small": 33}
FULL = Genotype(
    layers=(
        LayerChoice(("h", "w2_flip"), "layers.0", {"h": 0.5, "v": 0.1, "w2_flip": 0.4}, 0.3),
        LayerChoice(("v",), "layers.1", {"h": 0.3, "v": 0.4, "w2_flip": 0.3}, 0.1),
    ),
    model="local_vim_nano",
    search_space="mine",
    keep=(2, 1),
    derivation={"method": "topk"},
    health={"status": "ok", "entropy": 0.93},
    provenance={"lmsearch": "0.1.0", "seed": 0},
)
HAND_WRITTEN = """{"schema": "lmsearch.genotype", "version": 1,
 "layers": [{"directions": ["h", "w2x2"]}, {"directions": ["v_flip"]}]}"""


def content(**changes: object) -> dict:
    """Return valid genotype content with some keys changed."""
    return {"schema": "lmsearch.genotype", "version": 1, "layers": [{"directions": ["h"]}, {"directions": ["v"]}]} | changes


def test_a_saved_genotype_loads_as_it_was_and_saves_to_the_same_bytes(tmp_path: Path) -> None:
    save_genotype(FULL, tmp_path / "genotype.json")
    loaded = load_genotype(tmp_path / "genotype.json")
    assert loaded == FULL
    assert dumps(loaded).encode() == (tmp_path / "genotype.json").read_bytes()


def test_a_run_directory_stands_for_the_genotype_in_it(tmp_path: Path) -> None:
    save_genotype(FULL, tmp_path / "genotype.json")
    assert load_genotype(str(tmp_path)) == FULL


def test_a_hand_written_file_needs_only_the_directions(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(HAND_WRITTEN)
    assert load_genotype(tmp_path / "mine.json").directions == (("h", "w2"), ("v_flip",))


def test_bytes_do_not_depend_on_the_order_of_keys_or_on_rounding_noise() -> None:
    a = Genotype((LayerChoice(("h",), scores={"h": 0.1 + 0.2, "v": -1e-12}),), health={"x": 1, "y": np.float32(0.5)})
    b = Genotype((LayerChoice(("h",), scores={"v": 0.0, "h": 0.3}),), health={"y": 0.5, "x": np.int64(1)})
    assert dumps(a) == dumps(b)
    assert dumps(a).endswith("}\n") and json.loads(dumps(a))["layers"][0]["scores"] == {"h": 0.3, "v": 0.0}


def test_what_cannot_be_json_is_refused_when_saving() -> None:
    for value in (float("nan"), float("inf"), object()):
        with pytest.raises(GenotypeError):
            dumps(Genotype((LayerChoice(("h",)),), health={"x": value}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HAND_WRITTEN[:-20], "not valid JSON at line 2, column"),
        ("", "not valid JSON at line 1, column 1"),
        ("3", "a genotype is a JSON object"),
        (json.dumps({"layers": []}), "schema None is not a genotype; accepted: 'lmsearch.genotype'"),
        (json.dumps(content(version=2)), "version 2 cannot be read; accepted: 1"),
        (json.dumps(content(version="1")), "version '1' cannot be read; accepted: 1"),
        (json.dumps(content(version=True)), "version True cannot be read; accepted: 1"),
        (json.dumps(content(layers=[])), "layers [] must be a list with one object per layer"),
        (json.dumps(content(layers={"a": 1})), "must be a list with one object per layer"),
        (json.dumps(content(layers=[["h"]])), "layer 0: expected an object with the key directions"),
        (json.dumps(content(layers=[{"directions": []}])), "layer 0: directions [] must be a list of at least one"),
        (json.dumps(content(layers=[{"directions": "h"}])), "layer 0: directions 'h' must be a list"),
        (json.dumps(content(layers=[{"directions": [1]}])), "layer 0: direction 1 must be text"),
        (
            json.dumps(content(layers=[{"directions": ["h"]}, {"directions": ["w3x"]}])),
            "layer 1: 'w3x' is not a scan direction; accepted: h, v, w<side>",
        ),
        (json.dumps(content(layers=[{"directions": ["w2", "w2x2"]}])), "layer 0: a direction is listed twice"),
        (json.dumps(content(layers=[{"direction": ["h"]}])), "layer 0: unknown key 'direction'; did you mean directions?"),
        (json.dumps(content(layers=[{"directions": ["h"], "scores": {"v": 1}}])), "scores must list every candidate; h"),
        (json.dumps(content(layers=[{"directions": ["h"], "scores": {"h": "a"}}])), "layer 0: the score of h, 'a', must be"),
        (json.dumps(content(layers=[{"directions": ["h"], "scores": {"x": 1}}])), "layer 0, scores: 'x' is not a scan"),
        (json.dumps(content(layers=[{"directions": ["h"], "margin": "a"}])), "layer 0: margin 'a' must be a number"),
        (json.dumps(content(layers=[{"directions": ["h"], "margin": float("nan")}])), "NaN is not a number"),
        (json.dumps(content(keep=0)), "keep 0 must be a whole number of at least 1"),
        (json.dumps(content(keep=[1, "a"])), "must be a whole number of at least 1"),
        (json.dumps(content(model=3)), "model 3 must be text"),
        (json.dumps(content(health=[])), "health [] must be an object"),
        (json.dumps(content(helth={})), "unknown key 'helth'; did you mean health?"),
    ],
)
def test_a_mistake_names_the_file_the_place_and_what_is_accepted(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(GenotypeError) as raised:
        load_genotype(path)
    assert str(raised.value).startswith(str(path))
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_bytes_that_are_no_text_and_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "image.json").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(GenotypeError, match="not a text file"):
        load_genotype(tmp_path / "image.json")
    with pytest.raises(GenotypeError, match="holds no genotype.json"):
        load_genotype(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors", "holds weights, not directions"),
        ("checkpoint.pt", "holds weights, not directions"),
        ("genotype.png", "a .png file that holds no directions"),
        ("config.yaml", "a .yaml file that holds no directions"),
    ],
)
def test_another_file_of_a_run_is_called_what_it_is(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"a: 1\n\xff")
    with pytest.raises(GenotypeError, match=f"{name}: {message}; expected a run directory, its genotype.json"):
        load_genotype(tmp_path / name)


def test_depth_must_agree_with_the_model() -> None:
    check_depth(FULL, 2, "local_vim_nano")
    with pytest.raises(GenotypeError, match="listed for 2 layers, but local_vim_tiny has 20 layers"):
        check_depth(FULL, 20, "local_vim_tiny")


@pytest.mark.parametrize("name", sorted(shipped_genotypes()))
def test_every_published_genotype_loads_and_is_stored_in_its_stable_form(name: str) -> None:
    genotype = load_genotype(name)
    depth = next(depth for model, depth in DEPTHS.items() if name.removeprefix("localmamba/").startswith(model))
    check_depth(genotype, depth, name)
    assert all(len(layer.directions) == 4 for layer in genotype.layers)
    assert dumps(genotype) == shipped_genotypes()[name].read_text()


def test_the_published_names_are_complete() -> None:
    vim = ("tiny", "tiny_middle_cls_token", "small", "tiny_wo_search", "small_wo_search")
    expected = {f"localmamba/local_vim_{name}" for name in vim}
    assert set(shipped_genotypes()) == expected | {"localmamba/local_vmamba_tiny", "localmamba/local_vmamba_small"}


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(GenotypeError, match="did you mean localmamba/local_vim_tiny"):
        load_genotype("localmamba/local_vim_tinny")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "directions = (\n ['h', 'v_flip'],  # first\n ['w7'],\n)"),
        ("b.py", "(['h', 'v_flip'], ['w7'])"),
        ("a.txt", '[["h","v_flip"],["w7"]]'),
        ("a.json", '[["h","v_flip"],["w7"]]'),
    ],
)
def test_a_file_of_direction_lists_is_a_genotype(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert load_genotype(tmp_path / name).directions == (("h", "v_flip"), ("w7",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[['h'], ['w3x']]", "layer 1: 'w3x' is not a scan direction"),
        ("[['h'", "not a nested list of directions"),
        ("['h']", "layer 0: expected a list of directions, got 'h'"),
        ("[]", "expected one list of directions per layer"),
        ("__import__('os').getcwd()", "not a nested list of directions"),
        ("a = [['h']]\nb = [['h']]", "not a nested list of directions"),
    ],
)
def test_other_text_is_not_direction_lists(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "lists.txt").write_text(text)
    with pytest.raises(GenotypeError, match=message):
        load_genotype(tmp_path / "lists.txt")


NAMES = st.sampled_from(["h", "h_flip", "v", "w2", "w2x7_flip", "w13"])
SCORES = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(st.dictionaries(NAMES, SCORES, min_size=1), min_size=1, max_size=5), st.none() | SCORES)
def test_writing_what_was_read_gives_the_same_bytes(layers: list[dict[str, float]], margin: float | None) -> None:
    text = dumps(Genotype(tuple(LayerChoice(tuple(scores), scores=scores, margin=margin) for scores in layers)))
    assert dumps(loads(text)) == text
