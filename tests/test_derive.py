"""Derivation: top-k per layer, ties, margins, and the health that goes with it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_masking import PlainMasking

from lmsearch.engine.objectives import Scores
from lmsearch.engine.train import TrainingDiverged
from lmsearch.errors import SearchSpaceError
from lmsearch.genotype import Genotype, LayerChoice, dumps
from lmsearch.models import create_model
from lmsearch.search.derivation.choice import (
    Quota,
    allocate,
    check_budget,
    choose,
    make_genotype,
    planned,
    quota_of,
    top_k,
)
from lmsearch.search.trust.detectors import normalised_entropy
from lmsearch.search.trust.health import alpha_health, check_health, random_choice
from lmsearch.search.trust.inside import in_standard_errors
from lmsearch.search.trust.verdict import verdict


def test_top_k_lists_the_best_in_candidate_order_with_the_margin() -> None:
    choice = top_k({"h": 0.1, "v": 0.4, "w2": 0.2, "w7": 0.3}, 2)
    assert choice.directions == ("v", "w7")
    assert choice.margin == pytest.approx(0.1)


def test_ties_go_to_the_earlier_candidate() -> None:
    assert top_k({"h": 0.25, "v": 0.25, "w2": 0.25, "w7": 0.25}, 2).directions == ("h", "v")


def test_keeping_everything_has_no_margin() -> None:
    assert top_k({"h": 0.5, "v": 0.5}, 2).margin is None


@pytest.mark.parametrize("keep", [0, 3])
def test_keep_outside_the_candidates_is_refused_with_the_layers_name(keep: int) -> None:
    with pytest.raises(SearchSpaceError, match="layers.0.*h, v"):
        choose({"layers.0": {"h": 0.5, "v": 0.5}}, [keep])


def test_keep_may_differ_per_layer() -> None:
    scores = {"h": 0.5, "v": 0.3, "w2": 0.2}
    choices = choose({"a": scores, "b": scores}, [1, 2])
    genotype = make_genotype(choices, derivation={}, model="m", search_space="s", health={}, provenance={})
    assert genotype.directions == (("h",), ("h", "v"))
    assert genotype.keep == (1, 2)


def test_entropy_is_one_for_uniform_and_zero_for_a_sure_choice() -> None:
    assert normalised_entropy({"h": 0.25, "v": 0.25, "w2": 0.25, "w7": 0.25}) == pytest.approx(1.0)
    assert normalised_entropy({"h": 1.0, "v": 0.0}) == 0.0
    assert normalised_entropy({"h": 1.0}) == 0.0


def test_health_of_alphas_alone_is_never_called_ok() -> None:
    health = alpha_health([LayerChoice(("h",), "layers.0", {"h": 0.9, "v": 0.1}, 0.8)])
    assert health.status == "not tested"
    assert health.margin == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("entropy", "z", "recovered", "recheck_z", "status"),
    [
        (0.99, 50.0, 1.0, 50.0, "indeterminate"),
        (0.5, 1.0, 1.0, 50.0, "indeterminate"),
        (0.5, 9.0, 0.5, 50.0, "indeterminate"),
        (0.5, 9.0, 0.95, 2.9, "indeterminate"),
        (0.5, 9.0, 0.95, None, "unconfirmed"),
        (0.5, 1.0, 0.95, None, "indeterminate"),
        (0.5, 9.0, 0.95, 3.1, "ok"),
        (None, 9.0, None, math.nan, "indeterminate"),
        (0.5, math.inf, 0.95, 3.1, "indeterminate"),
        (None, None, None, 3.1, "ok"),
        (None, None, None, 2.9, "indeterminate"),
    ],
)
def test_the_verdict_needs_alphas_that_moved_an_advantage_most_of_the_mixture_and_a_recheck(
    entropy: float | None, z: float | None, recovered: float | None, recheck_z: float | None, status: str
) -> None:
    assert verdict(entropy, z, recovered, recheck_z)[0] == status


def test_the_functional_test_sees_which_direction_the_loss_depends_on() -> None:
    """A held-out loss that is low exactly where direction v runs must give v's genotype a large advantage."""
    torch.manual_seed(0)
    model = create_model("local_vim_nano", directions=["h", "v", "w2", "w4"], merge="weighted", depth=1)
    (mixer,) = [m for m in model.modules() if getattr(m, "alphas", None) is not None]
    with torch.no_grad():
        mixer.alphas.copy_(torch.tensor([0.0, 3.0, 0.0, 0.0]))
    seen: list[tuple[int, ...]] = []
    forward = mixer.forward

    def spy(*args: object, **kwargs: object) -> torch.Tensor:
        seen.append(tuple(kwargs.get("active", range(4))))
        return forward(*args, **kwargs)

    mixer.forward = spy
    noise = torch.randn(64, generator=torch.Generator().manual_seed(1)) * 0.01

    @PlainMasking
    def evaluate(module: torch.nn.Module) -> Scores:
        module(torch.zeros(1, 1, 8, 8))
        losses = noise + (0.1 if 1 in seen[-1] else 1.0)
        return Scores(losses, losses)

    choices = [LayerChoice(("v",), "layers.0", {"h": 0.05, "v": 0.85, "w2": 0.05, "w4": 0.05}, 0.8)]
    alphas = {"layers.0": choices[0].scores}
    health = check_health(model, choices, evaluate, seed=0, fresh=[model, model], alphas=alphas)
    assert health.status == "ok" and check_health(model, choices, evaluate, seed=0, alphas=alphas).status == "unconfirmed"
    shrunk = [replace(choices[0], scores={"h": 0.0, "v": 1.0, "w2": 0.0, "w4": 0.0}, margin=None)]
    alone = check_health(model, shrunk, evaluate, seed=0, fresh=[model, model], alphas={"layers.0": shrunk[0].scores})
    assert alone.status == "ok" and "dropped all other directions" in alone.reason
    assert check_health(model, shrunk, evaluate, seed=0, alphas={"layers.0": shrunk[0].scores}).status == "not tested"
    lost = check_health(model, choices, evaluate, seed=0, fresh=diverging(model), alphas=alphas)
    assert lost.status == "unconfirmed" and "diverged" in lost.reason and "search.recheck" not in lost.reason
    assert 0.3 < health.advantage <= 0.9 and health.advantage_z > 50
    assert math.isclose(health.gap, 0.0, abs_tol=1e-6)
    assert health.tau is not None and health.tau > 0


def test_losses_that_are_not_finite_end_in_a_genotype_that_says_so() -> None:
    torch.manual_seed(0)
    model = create_model("local_vim_nano", directions=["h", "v", "w2", "w4"], merge="weighted", depth=1)

    @PlainMasking
    def evaluate(module: torch.nn.Module) -> Scores:
        return Scores(torch.full((8,), math.inf), torch.zeros(8))

    choices = [LayerChoice(("v",), "layers.0", {"h": 0.05, "v": 0.85, "w2": 0.05, "w4": 0.05}, 0.8)]
    for alphas in (None, {"layers.0": choices[0].scores}):
        health = check_health(model, choices, evaluate, seed=0, alphas=alphas)
        assert health.status == "indeterminate" and "not finite" in health.reason
        assert all(f.level == "warning" for f in health.findings if f.name == "advantage")
        assert "not finite" in dumps(Genotype(tuple(choices), health=health.to_dict()))


def diverging(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """A recheck whose second supernet cannot be trained."""
    yield model
    raise TrainingDiverged("the loss is nan")


def test_one_sample_tells_nothing() -> None:
    assert in_standard_errors(torch.tensor([3.0])) == 0.0
    assert in_standard_errors(torch.tensor([1.0, 1.0])) > 1e6


def test_random_choices_are_keyed_and_in_candidate_order() -> None:
    order = ["h", "v", "w2", "w4"]
    candidates = {f"layers.{i}": order for i in range(3)}
    drawn = [random_choice(candidates, [2, 2, 2], np.random.default_rng(s)) for s in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2] or drawn[0] != drawn[3]
    assert all(list(d) == sorted(d, key=order.index) for d in drawn[2].values())


def test_a_dropped_candidate_is_never_kept_and_no_margin_is_taken_to_it() -> None:
    scores = {"h": 0.0, "v": 0.6, "w2": 0.4, "w7": 0.0}
    (choice,) = choose({"layers.0": scores}, [2])
    assert choice.directions == ("v", "w2") and choice.margin is None
    with pytest.raises(SearchSpaceError, match="keep=3.*v, w2"):
        choose({"layers.0": scores}, [3])


def test_entropy_counts_the_candidates_that_are_left() -> None:
    assert normalised_entropy({"h": 0.5, "v": 0.5, "w2": 0.0, "w7": 0.0}) == pytest.approx(1.0)


def test_a_budget_goes_to_the_layers_whose_probabilities_ask_for_it() -> None:
    sure = {"h": 0.97, "v": 0.01, "w2": 0.01, "w7": 0.01}
    torn = {"h": 0.3, "v": 0.3, "w2": 0.3, "w7": 0.1}
    assert quota_of(Quota(budget=4), {"a": sure, "b": torn}) == (1, 3)
    assert quota_of(Quota(budget=4), {"a": torn, "b": sure}) == (3, 1)


def test_a_layer_with_few_candidates_does_not_draw_the_budget_by_its_larger_probabilities() -> None:
    few, many = {"h": 0.5, "v": 0.5}, {"h": 0.25, "v": 0.25, "w2": 0.25, "w7": 0.25}
    assert quota_of(Quota(budget=3), {"a": many, "b": few}) == (2, 1)


def test_equal_layers_share_a_budget_evenly_and_the_rest_goes_to_the_first() -> None:
    flat = dict.fromkeys(["h", "v", "w2", "w7"], 0.25)
    assert quota_of(Quota(budget=8), {"a": flat, "b": flat, "c": flat}) == (3, 3, 2)


def test_an_allocation_is_the_best_of_all_that_spend_the_budget() -> None:
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(size).tolist() for size in (4, 2, 3)]  # not concave: a greedy choice would fail
    best = max(
        (keep for keep in itertools.product(range(1, 5), range(1, 3), range(1, 4)) if sum(keep) == 6),
        key=lambda keep: sum(v[k - 1] for v, k in zip(values, keep, strict=True)),
    )
    assert allocate(values, 6) == best


@pytest.mark.parametrize("budget", [1, 7])
def test_a_budget_that_cannot_be_shared_is_refused_with_what_is_accepted(budget: int) -> None:
    with pytest.raises(SearchSpaceError, match=f"budget={budget} .*2 layers.*2 to 6"):
        check_budget(budget, [4, 2])


def test_the_least_and_the_largest_budget_are_accepted() -> None:
    flat = {"h": 0.5, "v": 0.5}
    assert quota_of(Quota(budget=2), {"a": flat, "b": flat}) == (1, 1)
    assert quota_of(Quota(budget=4), {"a": flat, "b": flat}) == (2, 2)


def test_a_search_plans_with_a_budget_shared_evenly_within_each_layers_candidates() -> None:
    assert planned(Quota(budget=10), [8, 2, 8]) == (4, 2, 4)
    assert planned(Quota(keep=(3, 1)), [8, 8]) == (3, 1)
