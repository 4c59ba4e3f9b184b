"""Contracts that every derivation keeps: what its record says is what it does."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import partial
from itertools import product

import pytest
import torch
from plain_masking import PlainMasking
from torch import nn

from lmsearch.data import build_source, search_loaders
from lmsearch.engine.objectives import Scores
from lmsearch.errors import ConfigError, SearchSpaceError
from lmsearch.genotype import LayerChoice
from lmsearch.models import create_model
from lmsearch.search.architects.kinds import ARCHITECTS
from lmsearch.search.derivation.choice import Quota
from lmsearch.search.derivation.kinds import (
    DERIVATIONS,
    DerivationKind,
    derivation_kind,
    own_scores,
    samples_for,
    saw_holdout,
)
from lmsearch.search.supernet.network import named_mixers
from lmsearch.settings.catalogue import declared_anywhere

FOUR = ("h", "v", "w2", "w4")
KEEP = (2, 1)
SCORES = {"layers.0": dict(zip(FOUR, (0.1, 0.4, 0.3, 0.2), strict=True)), "layers.1": dict.fromkeys(FOUR, 0.25)}
FLAT = {layer: dict.fromkeys(FOUR, 0.25) for layer in SCORES}
DROPPED = {"layers.0": SCORES["layers.0"], "layers.1": {"h": 0.0, "v": 0.5, "w2": 0.0, "w4": 0.5}}
every_derivation = pytest.mark.parametrize("kind", DERIVATIONS.values(), ids=DERIVATIONS)


class Supernet:
    """A two-layer supernet whose held-out loss is less where more useful branches run; `ran` lists those of every pass."""

    def __init__(self, useful: Mapping[str, float]) -> None:
        self.module, self.ran = create_model("local_vim_nano", directions=FOUR, merge="weighted", depth=2).eval(), []
        self.now: dict[str, tuple[str, ...]] = {}
        self.useful = useful
        for layer, mixer in named_mixers(self.module).items():
            mixer.forward = self.noting(layer)

    def noting(self, layer: str) -> Callable[..., torch.Tensor]:
        def forward(x: torch.Tensor, *_: object, active: tuple[int, ...] = (0, 1, 2, 3), **__: object) -> torch.Tensor:
            self.now[layer] = tuple(FOUR[i] for i in active)
            return x

        return forward

    def evaluate(self, module: nn.Module) -> Scores:
        module(torch.zeros(1, 1, 8, 8))
        self.ran.append(dict(self.now))
        worth = sum(self.useful[name] for names in self.now.values() for name in names)
        losses = torch.full((4,), -float(worth))
        return Scores(losses, losses)

    def derive(self, kind: DerivationKind, scores: Mapping = SCORES, **quota: object) -> tuple[tuple[LayerChoice, ...], dict]:
        return kind.derive(self.module, scores, PlainMasking(self.evaluate), Quota(**quota or {"keep": KEEP}), 3)


RISING, FALLING = ({name: sign * i for i, name in enumerate(FOUR)} for sign in (1.0, -1.0))


@every_derivation
@pytest.mark.parametrize("scores", [SCORES, FLAT, DROPPED], ids=["learned", "flat", "dropped"])
def test_each_layer_keeps_as_many_as_asked_in_candidate_order(kind: DerivationKind, scores: Mapping) -> None:
    choices, how = Supernet(RISING).derive(kind, scores)
    assert how["method"] == kind.name
    assert [c.name for c in choices] == list(scores) and [len(c.directions) for c in choices] == list(KEEP)
    for choice in choices:
        assert list(choice.scores) == list(FOUR) and sum(choice.scores.values()) == pytest.approx(1.0)
        assert list(choice.directions) == [name for name in FOUR if name in choice.directions]
        assert all(scores[choice.name][name] > 0 for name in choice.directions), "what the search dropped stays dropped"
        assert (choice.scores == scores[choice.name]) is (kind.own_scores is None)


@every_derivation
def test_a_layer_that_has_too_few_candidates_is_refused(kind: DerivationKind) -> None:
    with pytest.raises(SearchSpaceError, match="layers.1"):
        Supernet(RISING).derive(kind, DROPPED, keep=(2, 3))


@every_derivation
def test_held_out_samples_are_asked_only_where_the_record_says_so(kind: DerivationKind) -> None:
    rising, falling = Supernet(RISING), Supernet(FALLING)
    choices = [[c.directions for c in net.derive(kind, FLAT)[0]] for net in (rising, falling)]
    assert bool(rising.ran) is kind.uses_holdout
    assert (choices[0] != choices[1]) is kind.uses_holdout
    if not kind.uses_holdout:
        assert kind.derive(None, SCORES, None, Quota(keep=KEEP), 3) == rising.derive(kind)


@every_derivation
def test_what_tells_directions_apart_without_alphas_needs_none(kind: DerivationKind) -> None:
    found = {tuple(c.directions for c in Supernet(useful).derive(kind, FLAT)[0]) for useful in (RISING, FALLING)}
    assert (len(found) == 1) is kind.needs_alphas


@every_derivation
def test_the_same_search_derives_the_same_and_stays_as_it_is(kind: DerivationKind) -> None:
    net = Supernet(RISING)
    before = copy.deepcopy(net.module.state_dict())
    assert net.derive(kind) == net.derive(kind) == Supernet(RISING).derive(kind)
    assert all(torch.equal(value, before[name]) for name, value in net.module.state_dict().items())


@every_derivation
def test_a_budget_is_spent_or_refused(kind: DerivationKind) -> None:
    if kind.takes_budget:
        choices, _ = Supernet(RISING).derive(kind, budget=5)
        assert sum(len(c.directions) for c in choices) == 5
        return
    with pytest.raises(ConfigError, match="budget=5"):
        Supernet(RISING).derive(kind, budget=5)


@every_derivation
def test_the_price_of_masking_is_about_what_the_record_says(kind: DerivationKind) -> None:
    net = Supernet(RISING)
    net.derive(kind)
    branches = [sum(map(len, ran.values())) for ran in net.ran]
    told = kind.branches(KEEP, (len(FOUR),) * len(KEEP))
    assert sum(branches) / 3 <= told <= 3 * sum(branches)
    assert (max(branches, default=0) > sum(KEEP)) is kind.runs_mixtures


@every_derivation
def test_a_derivation_masks_on_as_many_samples_as_the_record_says(kind: DerivationKind) -> None:
    holdout = search_loaders(build_source("digits"), holdout=0.3, batch_size=64, seed=0).holdout
    taken = samples_for(kind.name, holdout)
    assert sum(len(batch.targets) for batch in taken) == min(kind.samples or math.inf, holdout.num_samples)
    assert sum(len(batch.targets) for batch in samples_for(kind.name, holdout, samples=8)) == 8


@pytest.mark.parametrize(
    ("name", "samples", "share"),
    [
        ("halving", 2400, 0.5), ("halving", 8192, 0.25), ("halving", 60_000, 0.2), ("climb", 400, 0.32), ("climb", 2400, 0.2),
        ("topk", 100, 0.2), ("halving", None, 0.2), ("halving", 0, 0.2), ("halving", 100, 0.36), ("halving", 40, 0.2),
    ],
)  # fmt: skip
def test_of_few_samples_as_many_are_held_out_as_the_derivation_can_use(name: str, samples: int | None, share: float) -> None:
    assert derivation_kind(name).share_of(samples, batch_size=32, sample_bytes=3136) == pytest.approx(share)


def test_no_more_large_images_are_held_out_than_memory_keeps() -> None:
    share = partial(derivation_kind("halving").share_of, 1000, batch_size=2)
    assert share(sample_bytes=4 * 3 * 800 * 1280) == 0.2 and share(sample_bytes=4 * 3 * 512 * 512) == pytest.approx(0.341)


def test_no_derivation_can_forget_what_the_verdict_must_know_of_it() -> None:
    assert [f.name for f in fields(DerivationKind) if f.default is not MISSING or f.default_factory is not MISSING] == []


def test_held_out_samples_test_a_choice_only_where_neither_derivation_nor_architect_saw_them() -> None:
    for derivation, architect in product(DERIVATIONS.values(), ARCHITECTS.values()):
        assert saw_holdout(derivation.name, architect.name) is (derivation.uses_holdout or architect.uses_holdout)
    with pytest.raises(ConfigError, match="did you mean topk"):
        saw_holdout("topkk", "single")
    with pytest.raises(ConfigError, match="did you mean fair"):
        saw_holdout("topk", "fairr")


def test_methods_that_are_no_derivation_of_a_supernet_have_no_scores_of_their_own() -> None:
    assert own_scores(None) is own_scores("random") is None
    with pytest.raises(ConfigError, match="accepted"):
        derivation_kind("random")


def test_the_configuration_accepts_every_derivation() -> None:
    known = declared_anywhere()
    assert [*known["search.derivation"].words] == [*known["derivation"].words] == [*DERIVATIONS]
