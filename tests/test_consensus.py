"""Consensus over seeds: votes, stability beside its exact chance level, and a verdict against random choices."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from lmsearch.cli import main
from lmsearch.errors import GenotypeError
from lmsearch.genotype import Genotype, LayerChoice, dumps
from lmsearch.search.derivation.choice import Quota, choose
from lmsearch.search.trust.consensus import (
    agreement_p,
    chance_jaccard,
    check_alike,
    common_quota,
    consensus,
    jaccard,
    stability,
)

EIGHT = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip")


def searched(favourites: list[tuple[str, ...]], *, keep: int, status: str = "ok") -> Genotype:
    """Return the genotype of one seed whose layers favour the given directions, earlier ones more."""
    layers = {}
    for number, names in enumerate(favourites):
        raw = {d: 1.0 + (5.0 - names.index(d) if d in names else 0.0) for d in EIGHT}
        layers[f"layers.{number}"] = {d: v / sum(raw.values()) for d, v in raw.items()}
    return Genotype(choose(layers, [keep] * len(layers)), health={"status": status})


def random_seeds(number: int, *, depth: int, keep: int) -> list[Genotype]:
    rng = np.random.default_rng(number)
    draws = [[tuple(EIGHT[i] for i in rng.permutation(8)[:keep]) for _ in range(depth)] for _ in range(5)]
    return [searched(draw, keep=keep) for draw in draws]


@pytest.mark.parametrize(("k1", "k2", "total"), [(1, 1, 8), (4, 4, 8), (2, 3, 5), (5, 5, 6), (3, 3, 3)])
def test_the_chance_level_is_the_mean_over_all_pairs_of_subsets(k1: int, k2: int, total: int) -> None:
    first, second = (list(combinations([str(i) for i in range(total)], k)) for k in (k1, k2))
    assert chance_jaccard(k1, k2, total) == pytest.approx(np.mean([jaccard(a, b) for a in first for b in second]))


def test_seeds_of_other_data_or_models_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, text in {"a": "name: digits", "b": "name: digits", "c": "name: planted, grid: [4, 4]"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "genotype.json").write_text(dumps(searched([("h",)], keep=1)))
        (tmp_path / name / "config.yaml").write_text(f"data: {{{text}}}\nmodel: {{name: local_vim, depth: 1}}\n")
    for names, told in ("ab", False), ("abc", True):
        paths = ",".join(str(tmp_path / name) for name in names)
        assert main(["derive", f"genotypes=[{paths}]", f"run_dir={tmp_path / names}"]) == 0
        assert ("no seeds of one search" in caplog.text) == told
    assert "judged: data.name='digits' and 'planted'\n" in caplog.text


def test_stability_counts_votes_and_averages_over_pairs_of_seeds() -> None:
    found = stability([("h", "v"), ("h", "v"), ("h", "w2")], ("h", "v", "w2"))
    assert found.jaccard == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
    assert found.votes == {"h": 3, "v": 2, "w2": 1}


def test_the_test_is_exact_where_it_can_be_counted() -> None:
    """Three seeds that all keep the same one of eight: chance gives 1/64 for full agreement."""
    assert agreement_p([[1, 1, 1]], [8], 1.0) == pytest.approx(1 / 64, abs=0.004)
    assert agreement_p([[1, 1, 1]], [8], 0.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("method", "counts"), [("perturbation", (1, 3)), ("topk", (2, 2))])
def test_a_budget_that_seeds_shared_by_losses_is_not_shared_again_by_probabilities(method: str, counts: tuple) -> None:
    scores = {"h": 0.4, "h_flip": 0.3, "v": 0.2, "v_flip": 0.1}, dict.fromkeys(("h", "h_flip", "v", "v_flip"), 0.25)
    layers = tuple(
        LayerChoice(names, f"layers.{number}", scores[number]) for number, names in enumerate([("h",), ("h", "h_flip", "v")])
    )
    seed = Genotype(layers, derivation={"method": method, "budget": 4}, health={"status": "ok", "entropy": 0.5})
    choices, health = consensus([seed] * 3, Quota(budget=4))
    assert tuple(len(choice.directions) for choice in choices) == counts
    assert method == "topk" or tuple(choice.directions for choice in choices) == tuple(layer.directions for layer in layers)
    assert health["status"] == "ok"


def test_layers_with_nothing_to_choose_are_no_evidence() -> None:
    assert agreement_p([[8, 8]], [8], 1.0) is None
    assert agreement_p([[8, 8, 8], [1, 1, 1]], [8, 8], 1.0) == pytest.approx(1 / 64, abs=0.004)


def test_seeds_that_agree_are_ok_and_their_majority_is_the_consensus() -> None:
    genotypes = [searched([("v", "w2"), ("h", "w4")], keep=2) for _ in range(4)]
    genotypes.append(searched([("h_flip", "v_flip"), ("h", "w4")], keep=2))
    choices, health = consensus(genotypes, Quota(keep=(2, 2)))
    assert [c.directions for c in choices] == [("v", "w2"), ("h", "w4")]
    assert choices[0].margin == pytest.approx(0.6) and choices[1].margin == pytest.approx(1.0)
    assert health["status"] == "ok" and health["agreement_p"] < 0.001
    assert health["stability"]["layers.1"]["jaccard"] == 1.0
    assert health["stability"]["layers.0"]["votes"]["v"] == 4


def test_a_budget_of_searches_without_alphas_goes_where_the_seeds_put_it() -> None:
    """Layers of eight and of four candidates: a vote counts alike in both."""
    even = [dict.fromkeys(names, 1 / len(names)) for names in (EIGHT, EIGHT[:4])]
    second = ("h", "h_flip", "v")
    kept = [(("h", "v"), second), (("h", "w2"), second), (("v", "w2"), second)]
    seeds = [Genotype(tuple(LayerChoice(d, f"layers.{n}", even[n]) for n, d in enumerate(layers))) for layers in kept]
    choices, _ = consensus(seeds, Quota(budget=5))
    assert [len(c.directions) for c in choices] == [2, 3] and choices[1].directions == second


def test_values_of_a_climb_are_not_taken_for_what_alphas_learned() -> None:
    one = replace(searched([("v",)], keep=1), health={"status": "ok", "entropy": 0.5})
    topk, climb = ([replace(one, derivation={"method": how})] * 3 for how in ("topk", "climb"))
    assert consensus(topk, Quota(keep=(1,)))[1]["entropy"] > 0
    assert consensus(climb, Quota(keep=(1,)))[1].get("entropy") is None


@pytest.mark.parametrize("keep", [1, 4])
def test_random_choices_are_called_ok_as_rarely_as_the_level_says(keep: int) -> None:
    ok = sum(consensus(random_seeds(n, depth=2, keep=keep), Quota(keep=(keep, keep)))[1]["status"] == "ok" for n in range(40))
    assert ok <= 6, "5 % of 40 is 2; more than 6 has probability below 0.004"


def test_agreement_of_mostly_indeterminate_seeds_is_indeterminate() -> None:
    genotypes = [searched([("v",)], keep=1, status=s) for s in ("indeterminate",) * 3 + ("ok",) * 2]
    _, health = consensus(genotypes, Quota(keep=(1,)))
    assert health["status"] == "indeterminate" and "3 of 5" in health["reason"]


def test_a_consensus_is_as_undecided_as_half_of_its_seeds() -> None:
    genotypes = [searched([("v",)] * 2, keep=1, status=s) for s in ("indeterminate", "ok") * 2]
    _, health = consensus(genotypes, Quota(keep=(1, 1)))
    assert health["status"] == "indeterminate" and "2 of 4" in health["reason"]


def test_other_numbers_of_directions_than_the_seeds_kept_were_not_tested() -> None:
    genotypes = [searched([("v", "w2"), ("h", "w4")], keep=2) for _ in range(5)]
    for keep in ((1, 1), (2, 1), (3, 3)):
        _, health = consensus(genotypes, Quota(keep=keep))
        assert health["status"] == "not tested" and "other numbers of directions" in health["reason"]
    assert consensus(genotypes, Quota(budget=4))[1]["status"] == "ok"
    assert consensus(genotypes, Quota(budget=3))[1]["status"] == "not tested"


def test_agreement_of_untested_seeds_is_not_called_ok() -> None:
    _, health = consensus([searched([("v",)], keep=1, status="not tested")] * 5, Quota(keep=(1,)))
    assert health["status"] == "not tested"


def test_two_seeds_of_one_small_layer_are_too_few_to_tell() -> None:
    _, health = consensus([searched([("v",)], keep=1)] * 2, Quota(keep=(1,)))
    assert health["status"] == "indeterminate" and health["agreement_p"] == pytest.approx(1 / 8, abs=0.01)


def test_equal_votes_go_to_the_higher_mean_score_then_to_the_earlier_candidate() -> None:
    a, b = {"h": 0.30, "v": 0.45, "w2": 0.25}, {"h": 0.30, "v": 0.25, "w2": 0.45}
    genotypes = [Genotype(choose({"layers.0": s}, [1])) for s in (a, b)]
    assert consensus(genotypes, Quota(keep=(1,)))[0][0].directions == ("v",)


def test_a_budget_is_shared_by_the_mean_scores() -> None:
    genotypes = [searched([("v",), EIGHT], keep=2) for _ in range(3)]
    choices, _ = consensus(genotypes, Quota(budget=5))
    assert sum(len(c.directions) for c in choices) == 5


def test_genotypes_that_do_not_belong_together_are_refused() -> None:
    one, other = searched([("v",)], keep=1), searched([("v",), ("v",)], keep=1)
    for genotypes, needle in (
        ([one], "at least 2"),
        ([one, other], "b: its layers"),
        ([one, Genotype((LayerChoice(("h",)),))], "b: .*no scores"),
    ):
        with pytest.raises(GenotypeError, match=needle):
            check_alike(genotypes, ["a", "b"][: len(genotypes)])
    with pytest.raises(GenotypeError, match="set keep="):
        common_quota([one, searched([("v",)], keep=2)])
