"""A search in memory: it ends where `lmsearch search` ends, and its cost counts every branch that ran."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lmsearch
from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.data import spread
from lmsearch.engine.train import Precision
from lmsearch.search.derivation.choice import kept
from lmsearch.search.session import SearchSession
from lmsearch.search.supernet.options import SINGLE_PATH
from lmsearch.settings.tasks import Search
from lmsearch.tasks.parts.build import build_data, build_recipe
from lmsearch.tasks.parts.candidates import find_candidates, search_data
from lmsearch.tasks.parts.search_setup import search_options

TINY = [
    "search=darts", "data=planted", "data.grid=5", "epochs=2", "data.steps_per_epoch=3", "batch_size=128", "keep=2",
    "model.embed_dim=8", "model.d_state=2", "search.recheck=0", "search.health_every=0",
]  # fmt: skip
STEPS = 6


def begun(*words: str, shared: bool = False) -> SearchSession:
    """Return the search of a tiny supernet as the words say, untrained; `shared`: of shared weights instead."""
    cfg = compose_settings(Search, [*TINY, *words])
    source, precision = build_data(cfg.data), Precision(torch.device("cpu"))
    found = find_candidates(cfg, source)
    return SearchSession.over(
        source,
        found.spec,
        search_data(cfg, source, precision),
        build_recipe(cfg),
        SINGLE_PATH if shared else search_options(cfg.supernet),
        found.quota,
        derivation=cfg.supernet.derivation,
        precision=precision,
        seed=cfg.seed,
        recheck_share=cfg.supernet.recheck,
    )


def trained(*words: str, shared: bool = False) -> SearchSession:
    """Train such a supernet."""
    session = begun(*words, shared=shared)
    session.train()
    return session


@pytest.mark.parametrize("words", [(), ("search.relaxation=gumbel",), ("search.architect=bilevel",)])
def test_it_ends_with_the_probabilities_of_lmsearch_search(words: tuple[str, ...], tmp_path: Path) -> None:
    assert main(["search", *TINY, *words, f"run_dir={tmp_path}"]) == 0
    genotype, found = lmsearch.load_genotype(tmp_path), trained(*words)
    choices, how = found.derive()
    assert kept(choices) == genotype.directions and how == genotype.derivation
    for layer, chances in zip(genotype.layers, found.probabilities().values(), strict=True):
        assert dict(layer.scores) == pytest.approx(chances, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "per_step"),
    [
        ((), 8),
        (("search.relaxation=gumbel",), 2),
        (("search.architect=bilevel",), 16),
        (("search.architect=bilevel", "search.order=2"), 40),
        (("search=fair",), 8),
        (("search=fair", "search.passes=1"), 2),
    ],
)
def test_the_cost_counts_the_branches_of_every_pass(words: tuple[str, ...], per_step: int) -> None:
    assert trained(*words).cost == STEPS * per_step


def test_looks_for_dominance_are_part_of_the_time_left_until_they_are_taken() -> None:
    plain, looking = begun("search=fair"), begun("search=fair", "search.dominance=0.01")
    each = [[session.steps_beside_training(epoch) for epoch in (0, 1)] for session in (plain, looking)]
    assert each[0][0] == each[0][1] == each[1][1] > 0
    assert each[1][0] - each[0][0] == pytest.approx(24 * 2 * 32 / 128 / 3 / 8), "24 choices of two branches on 32 samples"
    looking.policy.follow_alphas("w2")
    assert looking.steps_beside_training(0) < each[0][0], "alphas decide: no climb, and no more looks"


def test_a_shrinking_search_costs_less() -> None:
    assert trained("search.shrink=[[0.4,4]]").cost == STEPS / 2 * (8 + 4)


def test_shared_weights_run_as_many_branches_as_are_kept_and_move_no_alphas() -> None:
    found = trained(shared=True)
    assert found.cost == STEPS * 2
    assert set(found.probabilities()["layers.0"].values()) == {1 / 8}


def test_scores_rank_by_probability_and_by_masking() -> None:
    found = trained()
    (chances,) = found.probabilities().values()
    ranked = sorted(chances, key=chances.get)
    assert found.trained.alpha_score((tuple(ranked[-2:]),)) > found.trained.alpha_score((tuple(ranked[:2]),))
    few = found.shared([spread(found.loaders.holdout, 8)])
    assert few.num_samples == 8 and few.evaluate(found.supernet).losses.shape == (8,)
    one, again = (found.shared()(kept(found.derive()[0])) for _ in range(2))
    assert one == again and one.loss > 0


def test_leaving_out_what_does_nothing_raises_no_loss() -> None:
    found = trained()
    with torch.no_grad():
        for parameter in found.supernet.layers[0].mixer.out_proj.parameters():
            parameter.zero_()
    assert all(rise == pytest.approx(0, abs=1e-7) for layer in found.trained.usefulness() for rise in layer.values())


def test_it_is_as_sure_as_lmsearch_search_recheck_included(tmp_path: Path) -> None:
    words = ["data.direction=w2", "seed=1", "search.recheck=0.15", "data.steps_per_epoch=5", "optim.lr=0.02", "data.grid=4"]
    words += ["search.alpha_lr=0.2", "model.embed_dim=16", "keep=1"]
    assert main(["search", *TINY, *words, f"run_dir={tmp_path}"]) == 0
    recorded, found = lmsearch.load_genotype(tmp_path).health, trained(*words)
    told = found.health(found.derive()[0])
    assert told.status == recorded["status"] and told.reason == recorded["reason"]
    assert told.recheck_z == pytest.approx(recorded["recheck_z"], abs=1e-4)


def test_the_recheck_trains_other_supernets_alike_and_counts_its_own_cost() -> None:
    found = trained("search.recheck=0.5")
    sessions = list(found.fresh())
    assert len({session.seed for session in [found, *sessions]}) == 3 and not any(session.learns for session in sessions)
    spent = found.cost
    fresh = list(found.recheck(lambda number, session: session.train()))
    assert len(fresh) == 2 and found.supernet not in fresh and found.cost == spent


def test_a_search_in_which_nothing_is_left_to_test_on_says_so() -> None:
    found = trained()
    found.unseen = None
    assert found.health(found.derive()[0]).status == "not tested"
