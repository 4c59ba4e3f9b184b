"""Selection by perturbation, on supernets whose loss is a known function of the branches that run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from plain_masking import PlainMasking
from torch import nn

from lmsearch.engine.objectives import Scores
from lmsearch.errors import SearchSpaceError
from lmsearch.models import create_model
from lmsearch.search.derivation.choice import Quota
from lmsearch.search.derivation.perturbation import derive_perturbation
from lmsearch.search.supernet.network import named_mixers

FOUR = ("h", "v", "w2", "w4")
Ran = Mapping[str, tuple[str, ...]]


def supernet(loss: Callable[[Ran], float]) -> tuple[nn.Module, Callable[[nn.Module], Scores], list[Ran]]:
    """Return a two-layer supernet, an evaluation whose loss depends on the branches that ran, and what ran each time."""
    model = create_model("local_vim_nano", directions=FOUR, merge="weighted", depth=2).eval()
    ran: dict[str, tuple[str, ...]] = {}
    seen: list[Ran] = []
    for layer, mixer in named_mixers(model).items():
        mixer.forward = lambda x, *_, active=(0, 1, 2, 3), layer=layer, **__: (
            ran.update({layer: tuple(FOUR[i] for i in active)}) or x
        )

    def evaluate(module: nn.Module) -> Scores:
        module(torch.zeros(1, 1, 8, 8))
        seen.append(dict(ran))
        losses = torch.full((4,), loss(ran))
        return Scores(losses, losses)

    return model, PlainMasking(evaluate), seen


def missing(useful: Mapping[str, float]) -> Callable[[Ran], float]:
    """Return a loss that rises by useful[d] in every layer where d does not run."""
    return lambda ran: sum(worth for names in ran.values() for d, worth in useful.items() if d not in names)


SURE = {"h": 0.7, "v": 0.1, "w2": 0.1, "w4": 0.1}
FLAT = dict.fromkeys(FOUR, 0.25)
USEFUL = {"h": 0.0, "v": 3.0, "w2": 2.0, "w4": 1.0}


def test_what_the_loss_misses_most_is_kept_whatever_the_alphas_say() -> None:
    model, evaluate, _ = supernet(missing(USEFUL))
    choices, how = derive_perturbation(model, {"layers.0": SURE, "layers.1": FLAT}, evaluate, Quota(keep=(1, 2)))
    assert [c.directions for c in choices] == [("v",), ("v", "w2")]
    assert how["method"] == "perturbation"
    assert how["layers"]["layers.0"]["dropped"] == ("h", "w4", "w2")
    assert [c.margin for c in choices] == pytest.approx([1.0, 1.0])
    assert choices[0].scores == SURE


def test_the_number_of_passes_is_what_the_docstring_says() -> None:
    model, evaluate, seen = supernet(missing(USEFUL))
    derive_perturbation(model, {"layers.0": SURE, "layers.1": FLAT}, evaluate, Quota(keep=(1, 3)))
    assert len(seen) == (1 + 4 + 3 + 2) + (1 + 4)


def test_directions_that_stand_in_for_each_other_are_not_both_dropped() -> None:
    """Each alone looks useless as long as its twin runs: one pass of leave-one-out would drop both."""
    model, evaluate, _ = supernet(lambda ran: sum(("h" not in n and "v" not in n) + 0.1 * ("w2" not in n) for n in ran.values()))
    choices, _ = derive_perturbation(model, {"layers.0": FLAT, "layers.1": FLAT}, evaluate, Quota(keep=(2, 2)))
    assert all(c.directions == ("h", "w2") for c in choices)


def test_the_surest_layer_is_decided_first_and_stays_decided() -> None:
    model, evaluate, seen = supernet(missing(USEFUL))
    derive_perturbation(model, {"layers.0": FLAT, "layers.1": SURE}, evaluate, Quota(keep=(1, 1)))
    assert seen[0] == {"layers.0": FOUR, "layers.1": FOUR} and seen[1]["layers.0"] == FOUR
    assert all(ran["layers.1"] == ("v",) for ran in seen if len(ran["layers.0"]) < 4)


def test_a_budget_goes_where_the_loss_asks_for_it() -> None:
    def loss(ran: Ran) -> float:
        second = {"h": 1.0, "v": 1.0, "w2": 1.0, "w4": 0.0}
        return sum(w for d, w in second.items() if d not in ran["layers.1"]) + 5.0 * ("w4" not in ran["layers.0"])

    model, evaluate, _ = supernet(loss)
    choices, _ = derive_perturbation(model, {"layers.0": FLAT, "layers.1": FLAT}, evaluate, Quota(budget=4))
    assert [c.directions for c in choices] == [("w4",), ("h", "v", "w2")]


def test_dropped_branches_are_neither_run_nor_kept() -> None:
    model, evaluate, seen = supernet(missing(USEFUL))
    shrunk = {"h": 0.5, "v": 0.0, "w2": 0.25, "w4": 0.25}
    choices, _ = derive_perturbation(model, {"layers.0": shrunk, "layers.1": FLAT}, evaluate, Quota(keep=(1, 4)))
    assert choices[0].directions == ("w2",)
    assert all("v" not in ran["layers.0"] for ran in seen if ran["layers.1"] == FOUR and ran["layers.0"] != FOUR)


@pytest.mark.parametrize("quota", [Quota(keep=(5, 1)), Quota(budget=9), Quota(budget=1)])
def test_a_quota_that_does_not_fit_is_refused_before_anything_runs(quota: Quota) -> None:
    model, evaluate, seen = supernet(missing(USEFUL))
    with pytest.raises(SearchSpaceError):
        derive_perturbation(model, {"layers.0": FLAT, "layers.1": FLAT}, evaluate, quota)
    assert not seen
