"""The page on what layers keep: chance counted exactly, equal candidates as one, permutations that find what is planted."""

from __future__ import annotations

import json
from itertools import combinations, product

import numpy as np
import pytest

from experiments.what_layers_keep import run, sources
from experiments.what_layers_keep.counting import KINDS, Layer, chances, expected, level_p, neighbours, raster, shares, trend
from lmsearch.genotype import load_genotype

EIGHT = sources.SEVENS


def test_chance_is_hypergeometric_and_counts_equal_candidates_as_one() -> None:
    layer = Layer(("h", "v", "w2", "w7"), EIGHT)
    found = chances(layer, raster)
    assert expected(layer, raster) == pytest.approx(2) and found @ (np.arange(5) - 2) ** 2 == pytest.approx(4 / 7)
    last = sources.layer_on(layer.kept, EIGHT, (7, 7), "zeros")
    assert last.same == {"w7": "h", "w7_flip": "h_flip"}
    assert expected(last, raster) == pytest.approx(3) and raster(last.orders(last.kept)) == 3
    assert shares([layer, last], raster).tolist() == pytest.approx([0.0, 0.0])


def test_the_p_value_of_a_count_is_that_of_all_draws() -> None:
    drawn = [raster(a) + raster(b) for a, b in product(list(combinations(EIGHT, 4)), repeat=2)]
    layers = [Layer(("h", "h_flip", "v", "v_flip"), EIGHT), Layer(("h", "v", "v_flip", "w2"), EIGHT)]
    exact = np.mean([abs(count - 4) >= 3 for count in drawn])
    assert level_p(layers, raster) == pytest.approx(exact, rel=1e-2)
    assert level_p([Layer(("h", "v", "w2", "w7"), EIGHT)] * 2, raster) == 1


def test_a_planted_trend_and_planted_blocks_are_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    change, p = trend(np.linspace(0, 1, 20) + 0.1 * rng.normal(size=20), seed=1)
    assert p < 0.001 and change.low < 1 < change.high
    assert trend(rng.normal(size=20), seed=1)[1] > 0.05
    blocks = [Layer(EIGHT[:4] if n < 10 else EIGHT[4:], EIGHT) for n in range(20)]
    assert neighbours(blocks, seed=1)[2] < 0.001
    mixed = [Layer(tuple(rng.permutation(EIGHT)[:4]), EIGHT) for _ in range(20)]
    assert neighbours(mixed, seed=1)[2] > 0.05


def test_the_distinct_published_lists_are_all_there() -> None:
    same = [
        load_genotype(f"localmamba/{name}").directions
        for name in ("local_vim_tiny", "local_vim_small", "local_vim_tiny_middle_cls_token")
    ]
    assert same[0] == same[1] == same[2]
    lists = sources.published()
    assert {name: sum(raster(layer.kept) for layer in layers) for name, layers in lists.items()} == {
        "Vim (20)": 59, "VMamba small (33)": 89, "VMamba tiny (15)": 33
    }  # fmt: skip
    assert [sum(bool(layer.same) for layer in layers) for layers in lists.values()] == [0, 2, 2]


def test_searches_that_two_studies_did_alike_count_once() -> None:
    searched = {tuple(map(tuple, r["chosen"])) for r in sources.searched_in_e7("local_vim_nano")}
    arm = "halving, half held out"
    counted = [r["chosen"] for r in sources.records("e6_real") if r["part"] == "main search" and r["arm"] == arm]
    assert searched and searched <= {tuple(map(tuple, chosen)) for chosen in counted}


def test_the_page_is_what_the_command_finds() -> None:
    told = json.loads((run.HERE / "results.json").read_text())
    assert told == json.loads(json.dumps(run.summarise()))
    assert set(told["published"]["Vim (20)"]["kinds"]) == set(KINDS)


def test_what_pays_is_found_where_it_pays() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 5, size=60).tolist()
    found = run.pays(counts, [0.1 * count + 0.05 * rng.normal() for count in counts])
    low, high = found["per_raster_direction"][1:]
    assert low < 0.1 < high and found["p"] < 0.001 and run.pays(counts, rng.normal(size=60).tolist())["p"] > 0.05
