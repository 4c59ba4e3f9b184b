"""Supernets in memory: they end where `lmsearch search` ends, and their cost counts every branch that ran."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lmsearch
from lmsearch.cli import main
from lmsearch.config import compose
from lmsearch.engine.train import Precision
from lmsearch.search.supernet.oneshot import OneShot, train_oneshot
from lmsearch.tasks.parts.build import build_data, build_recipe
from lmsearch.tasks.parts.candidates import find_candidates
from lmsearch.tasks.search import search_options

TINY = [
    "search=darts", "data=planted", "epochs=2", "data.steps_per_epoch=3", "batch_size=64", "keep=2", "model.embed_dim=8",
    "search.recheck=0", "search.health_every=0",
]  # fmt: skip
STEPS = 6


def trained(*words: str, shared: bool = False) -> OneShot:
    """Train a tiny supernet as the words say; `shared`: shared weights instead."""
    cfg = compose("search", [*TINY, *words])
    source = build_data(cfg)
    found = find_candidates(cfg, source)
    return train_oneshot(
        found.spec,
        source,
        build_recipe(cfg),
        Precision(torch.device("cpu")),
        options=None if shared else search_options(cfg),
        keep=found.keep,
        holdout=cfg.search.holdout,
        seed=cfg.seed,
    )


@pytest.mark.parametrize("words", [(), ("search.relaxation=gumbel",), ("search.architect=bilevel",)])
def test_it_ends_with_the_probabilities_of_lmsearch_search(words: tuple[str, ...], tmp_path: Path) -> None:
    assert main(["search", *TINY, *words, f"run_dir={tmp_path}"]) == 0
    genotype, found = lmsearch.load_genotype(tmp_path), trained(*words)
    assert found.derive() == genotype.directions
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
    assert found.alpha_score((tuple(ranked[-2:]),)) > found.alpha_score((tuple(ranked[:2]),))
    one, again = (found.shared()(found.derive()) for _ in range(2))
    assert one == again and one.loss > 0


def test_leaving_out_what_does_nothing_raises_no_loss() -> None:
    found = trained()
    with torch.no_grad():
        for parameter in found.module.layers[0].mixer.out_proj.parameters():
            parameter.zero_()
    assert all(rise == pytest.approx(0, abs=1e-7) for layer in found.usefulness() for rise in layer.values())
