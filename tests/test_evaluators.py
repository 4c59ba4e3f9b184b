"""Evaluating architectures: stand-alone training agrees with retrain, masking agrees with the supernet, costs are exact."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.engine.objectives import Scores, classification, dense_regression
from lmsearch.engine.train import Precision
from lmsearch.models import create_model
from lmsearch.search.discrete.architectures import Architecture, num_branches
from lmsearch.search.discrete.budget import Budget, evaluation_cost, training_cost
from lmsearch.search.discrete.evaluators import SharedWeights, StandAlone
from lmsearch.search.supernet.network import masked, named_mixers, running
from lmsearch.settings.tasks import Retrain
from lmsearch.tasks.parts.build import build_data, build_recipe, model_spec

TINY = ["model.depth=2", "model.embed_dim=16", "batch_size=128", "epochs=1", "optim.warmup_epochs=0"]
PLANTED = ["data=planted", "data.steps_per_epoch=2", "epochs=1", "batch_size=8"]
CHOSEN: Architecture = (("h", "v"), ("w2",))


def stand_alone(words: list[str], *, seed: int = 0) -> StandAlone:
    cfg = compose_settings(Retrain, [*words, "genotype=unused"])
    source = build_data(cfg.data)
    precision = Precision(torch.device("cpu"))
    spec = model_spec(cfg, source.info, (("h",), ("h",)), merge="sum")
    return StandAlone(spec, source, build_recipe(cfg), precision, seed)


@pytest.mark.parametrize("extra", [[], ["optim.ema_decay=0.9", "optim.mixup=0.2", "optim.mix_prob=1.0"]])
def test_a_stand_alone_score_is_what_retrain_reports(extra: list[str], tmp_path: Path) -> None:
    genotype = tmp_path / "genotype.json"
    genotype.write_text(json.dumps(CHOSEN))
    words = [*TINY, *extra]
    assert main(["retrain", *words, f"genotype={genotype}", "seed=3", f"run_dir={tmp_path / 'run'}"]) == 0
    reported = json.loads((tmp_path / "run" / "metrics.json").read_text())["val_accuracy"]
    assert stand_alone(words, seed=3)(CHOSEN).score == reported


def test_a_stand_alone_evaluation_costs_its_branches_times_its_steps_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluator = stand_alone(TINY)
    result = evaluator(CHOSEN)
    steps, samples = len(evaluator.source.train.labels) // 128, len(evaluator.source.val.labels)
    assert result.cost == pytest.approx(steps * 3 + samples / 128 * 3 / 3)
    assert list(tmp_path.iterdir()) == []


def test_an_error_counts_as_a_negative_score() -> None:
    cfg_words = [*PLANTED, "model.depth=1"]
    result = stand_alone(cfg_words)((("h",),))
    assert result.score == pytest.approx(-result.loss) and result.loss > 0


def supernet() -> nn.Module:
    torch.manual_seed(0)
    names = ["h", "h_flip", "v", "w2"]
    return create_model("local_vim_nano", depth=2, embed_dim=16, directions=names, merge="weighted").eval()


@torch.no_grad()
def scores_of(module: nn.Module) -> Scores:
    outputs = module(torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    return Scores(outputs.square().mean(1), outputs.argmax(1).float())


def test_shared_weights_score_the_masked_supernet_and_leave_it_as_it_was() -> None:
    net = supernet()
    before = scores_of(net).losses
    result = SharedWeights(net, scores_of, classification(), 3, 6)(CHOSEN)
    with running(net, masked(net, dict(zip(named_mixers(net), CHOSEN, strict=True)))):
        expected = scores_of(net)
    assert (result.loss, result.score) == (expected.loss, expected.score)
    assert result.cost == pytest.approx(6 / 3 * 3 / 3)
    assert torch.equal(scores_of(net).losses, before)


def test_shared_weights_turn_errors_into_negative_scores() -> None:
    net = supernet()
    higher = SharedWeights(net, scores_of, classification(), 3, 6)(CHOSEN)
    assert SharedWeights(net, scores_of, dense_regression(), 3, 6)(CHOSEN).score == -higher.score


def test_costs_are_in_branch_scan_steps() -> None:
    assert num_branches(CHOSEN) == 3
    assert training_cost(100, 16) == 1600
    assert evaluation_cost(640, batch_size=64, branches=6) == pytest.approx(20)


def test_a_budget_allows_what_it_can_pay_and_everything_without_a_total() -> None:
    budget = Budget(10)
    budget.charge(6)
    assert budget.allows(4) and not budget.allows(4.1)
    endless = Budget()
    endless.charge(1e12)
    assert endless.allows(1e12)


def test_an_architecture_that_diverges_scores_lowest_and_the_search_goes_on() -> None:
    result = stand_alone([*PLANTED, "model.depth=1", "optim.lr=1e12", "optim.warmup_lr=1e12"])((("h",),))
    assert result.score == -math.inf and result.cost > 0
