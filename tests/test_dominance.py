"""Where one direction does all the work, alphas learn for the rest of a fair search and decide; elsewhere nothing changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from test_exact_resume import check_same_search
from torch import nn

import lmsearch
from lmsearch.cli import main
from lmsearch.data import Batch
from lmsearch.engine.objectives import Scores, objective_for
from lmsearch.engine.train import Precision, Trainer
from lmsearch.models import create_model
from lmsearch.search.architects.alpha_update import alpha_optimizer
from lmsearch.search.architects.fair import Fair
from lmsearch.search.architects.learning import SingleLevel, Timing
from lmsearch.search.checks import check_dominance
from lmsearch.search.derivation import dominance
from lmsearch.search.derivation.dominance import LOOKS, dominant, due
from lmsearch.search.supernet.masking import Choice
from lmsearch.search.supernet.network import Branches, arch_parameters, named_mixers, weight_parameters
from lmsearch.search.supernet.policy import BranchPolicy
from lmsearch.search.supernet.relax import RELAXATIONS

EIGHT = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip")
LEVEL = 0.01
TINY = [
    "search", "data=planted", "data.grid=5", "data.num_train=320", "model.embed_dim=8", "model.d_state=2", "batch_size=128",
    "epochs=3", "keep=2", "search=fair", "search.recheck=0", "search.health_every=0",
    "search.holdout=0.2",
]  # fmt: skip
LOOKING = "search.dominance=0.01"
Loss = Callable[[Mapping[str, Sequence[str]]], float]


def supernet(*, depth: int = 1) -> nn.Module:
    return create_model("local_vim_nano", directions=EIGHT, merge="weighted", depth=depth, embed_dim=4, d_state=1, num_classes=2)


class Landscape:
    """Losses that a function of the directions gives instead of a supernet."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def each(self, module: nn.Module, choices: Sequence[Choice]) -> list[Scores]:
        return [self.scored(module, choice) for choice in choices]

    def scored(self, module: nn.Module, choice: Mapping[str, Branches]) -> Scores:
        mixers = named_mixers(module)
        names = {layer: tuple(mixers[layer].directions[i] for i in mine.active) for layer, mine in choice.items()}
        return Scores(torch.full((2,), self.loss(names)), torch.zeros(2))


def found_in(loss: Loss, *, depth: int = 1, keep: int = 2, seed: int = 0, level: float = LEVEL) -> str | None:
    model = supernet(depth=depth)
    choices = dominance.random_choices(model, (keep,) * depth, seed=seed, look=0)
    return dominant(model, Landscape(loss), choices, level=level)


def additive(strengths: Sequence[float]) -> Loss:
    return lambda choice: 1 - sum(strengths[EIGHT.index(name)] for mine in choice.values() for name in mine)


@pytest.mark.parametrize("keep", [2, 4])
def test_a_direction_that_does_all_the_work_dominates(keep: int) -> None:
    assert found_in(additive([0.0, 0.02, 0.9, 0.01, 0.05, 0.03, 0.0, 0.04]), keep=keep) == "v"


def test_it_may_do_so_in_any_layer() -> None:
    assert found_in(lambda choice: 0.1 if any("w2" in mine for mine in choice.values()) else 1.0, depth=2, keep=1) == "w2"


def test_no_direction_dominates_where_every_one_helps() -> None:
    graded = additive((0.20, 0.05, 0.19, 0.02, 0.15, 0.16, 0.01, 0.10))
    assert all(found_in(graded, keep=keep, seed=seed) is None for keep in (2, 4) for seed in range(5))


def test_where_no_direction_matters_one_is_found_as_rarely_as_is_said() -> None:
    draws, level = np.random.default_rng(0), 0.6
    found = [found_in(lambda _: draws.random(), seed=seed, level=level) for seed in range(100)]
    assert sum(one is not None for one in found) <= 100 * level / len(LOOKS)
    assert found_in(lambda _: 1.0) is None


def test_looks_are_taken_in_the_middle_of_a_search() -> None:
    assert [[epoch + 1 for epoch in range(n) if due(epoch, n)] for n in (1, 2, 3, 5, 12)] == [[], [1], [2], [3, 4], [6, 9]]


def fair_step(*, following: bool) -> tuple[nn.Module, BranchPolicy, Fair]:
    """Take one step of a small fair search, before or after a direction was found to dominate."""
    torch.manual_seed(0)
    model = supernet().train()
    policy = BranchPolicy(model, RELAXATIONS["uniform"], (2,), (2,), 0)
    if following:
        policy.follow_alphas("v")
    timing, precision = Timing(8, 1), Precision(torch.device("cpu"))
    optimizer = alpha_optimizer(model, lr=0.1, betas=(0.5, 0.999), weight_decay=0.0)
    fair = Fair(policy, timing, None, SingleLevel(policy, timing, optimizer, precision))
    weights = torch.optim.SGD([p for _, p in weight_parameters(model)], lr=0.1)
    trainer = Trainer(model, weights, objective_for("class"), lambda step: 0.1, precision, seed=0, hook=fair)
    with policy.attached():
        trainer.step(Batch(torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 1, 0]), torch.arange(4)), epoch=0, index=0, lr=0.1)
    return model, policy, fair


@pytest.mark.parametrize("following", [False, True])
def test_alphas_weigh_all_branches_and_move_once_a_direction_dominates(following: bool) -> None:
    torch.manual_seed(0)
    before = [alpha.detach().clone() for alpha in arch_parameters(supernet())]
    model, policy, fair = fair_step(following=following)
    assert fair.passes_of_step() == (1 if following else 4)
    assert [len(draw.picked) for draw in policy.draws.values()] == [8 if following else 2]
    moved = [not torch.equal(a, b) for a, b in zip(arch_parameters(model), before, strict=True)]
    assert moved == [following]


def test_what_dominates_is_part_of_the_state_and_old_states_have_none() -> None:
    _, policy, _ = fair_step(following=True)
    state = policy.state_dict()
    other = BranchPolicy(supernet(), RELAXATIONS["uniform"], (2,), (2,), 0)
    other.load_state_dict(state)
    assert other.dominant == "v" and other.relaxation.learns
    other.load_state_dict({**state, "dominant": ""})  # a training that was rolled back to before it was found
    assert other.dominant == "" and not other.relaxation.learns
    old = BranchPolicy(supernet(), RELAXATIONS["uniform"], (2,), (2,), 0)
    old.load_state_dict({name: value for name, value in state.items() if name != "dominant"})
    assert old.dominant == "" and not old.relaxation.learns


@pytest.fixture
def w2_dominates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let w2 dominate in every search that looks."""
    monkeypatch.setattr(dominance, "dominant", lambda *_, **__: "w2")


@pytest.mark.usefixtures("w2_dominates")
@pytest.mark.parametrize("after", [4, 5])  # 4: the last step before the look
def test_a_search_that_is_stopped_around_the_look_ends_as_the_whole_one(after: int, tmp_path: Path) -> None:
    check_same_search([*TINY, LOOKING], tmp_path, after=after)
    found = lmsearch.load_genotype(tmp_path / "cut")
    assert found.derivation == {"method": "topk", "dominant": "w2"}
    lines = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert ["probabilities" in line for line in lines] == [False, True, True]
    assert main(["derive", f"checkpoint={tmp_path / 'cut'}", f"run_dir={tmp_path / 'again'}"]) == 0
    again = lmsearch.load_genotype(tmp_path / "again")
    assert again.directions == found.directions and again.derivation == found.derivation


def test_a_search_that_does_not_look_is_what_it_was(tmp_path: Path) -> None:
    assert main([*TINY, "search.dominance=null", f"run_dir={tmp_path}"]) == 0
    assert lmsearch.load_genotype(tmp_path).derivation["method"] == "halving"


def test_searches_with_alphas_do_not_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "search=darts", LOOKING, f"run_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert "search.dominance=0.01 needs search=fair" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["v", "w2_flip"])
def test_a_planted_direction_is_found_to_dominate_and_kept(direction: str, tmp_path: Path) -> None:
    words = ["search", "data=planted", f"data.direction={direction}", "epochs=4", "keep=2", "search.recheck=0", "search=fair"]
    assert main([*words, LOOKING, f"run_dir={tmp_path}"]) == 0
    found = lmsearch.load_genotype(tmp_path)
    assert found.derivation == {"method": "topk", "dominant": direction} and direction in found.directions[0]


@pytest.mark.parametrize(
    ("level", "keep", "candidates", "epochs", "told"),
    [
        (0.01, (2,), (8,), 8, ""), (0.01, (1, 1), (8, 8), 8, ""), (0.01, (2,), (8,), 1, "of so few epochs (1) has no look"),
        (0.01, (1,), (8,), 8, "of so few choices none is told below 1"), (0.01, (2,), (4,), 8, "of so few choices none is told"),
        (0.01, (4,) * 3, (8,) * 3, 8, ""), (0.01, (2,) * 7, (8,) * 7, 8, ""), (0.01, (1,) * 16, (8,) * 16, 8, ""),
        (0.01, (4,) * 4, (8,) * 4, 8, "4 layers, keeping 4 of 8: about 22 of 24 choices hold any given direction, and none"),
        (0.01, (4,) * 6, (8,) * 6, 8, "none is told below 1; fewer layers or a smaller keep= take it"),
        (0.01, (1,), (24,), 8, "of 24 choices only about 1 hold any given direction, and of so few none is told below 1"),
    ],
)  # fmt: skip
def test_a_search_that_can_find_no_direction_says_so(
    level: float, keep: tuple[int, ...], candidates: tuple[int, ...], epochs: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    check_dominance(level, keep, candidates, epochs=epochs)
    assert (told in caplog.text) if told else not caplog.text


def test_a_chance_of_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "search.dominance=0", f"run_dir={tmp_path / 'run'}"]) == 2
    assert "search.dominance=0 can find nothing" in capsys.readouterr().err and not (tmp_path / "run").exists()
