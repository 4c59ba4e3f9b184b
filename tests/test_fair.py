"""Fair training, in which every branch has its turn, and derivation by climbing, which ends where no swap helps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lmsearch
from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.data import Batch
from lmsearch.engine.checkpoint import load_checkpoint
from lmsearch.engine.objectives import objective_for
from lmsearch.engine.progress import TrainingProgress
from lmsearch.engine.train import Precision, Trainer
from lmsearch.errors import ConfigError
from lmsearch.models import create_model
from lmsearch.search.architects.fair import Fair, fair_sets, passes_per_round
from lmsearch.search.architects.learning import Timing
from lmsearch.search.derivation import climb as climbing
from lmsearch.search.derivation.choice import Quota
from lmsearch.search.supernet.network import masked, named_mixers, running, weight_parameters
from lmsearch.search.supernet.policy import BranchPolicy
from lmsearch.search.supernet.relax import RELAXATIONS
from lmsearch.settings.tasks import Search
from lmsearch.tasks.parts.build import build_data, build_precision
from lmsearch.tasks.parts.converted import TOLD
from lmsearch.tasks.parts.search_setup import search_setup
from lmsearch.tasks.search import open_session, search_data

FOUR = ("h", "v", "w2", "w4")
OBJECTIVE = objective_for("class")
SMALL = ["data=planted", "data.grid=5", "model.embed_dim=8", "model.d_state=2"]  # eight orders that differ
TINY = [*SMALL, "epochs=2", "data.steps_per_epoch=2", "batch_size=128", "search.health_every=1"]
FAIR = ["search", *TINY, "search=fair", "keep=2"]


@given(total=st.integers(1, 16), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_no_branch_has_a_second_turn_before_all_had_a_first(total: int, share: float, seed: int) -> None:
    keep = max(1, round(share * total))
    passes = passes_per_round([keep], [total])
    sets = fair_sets(total, keep, passes, torch.Generator().manual_seed(seed))
    turns = [sum(branch in mine for mine in sets) for branch in range(total)]
    assert all(len(set(mine)) == keep for mine in sets)
    assert min(turns) >= 1 and max(turns) - min(turns) <= 1 and (passes - 1) * keep < total


def test_layers_that_need_fewer_passes_start_over() -> None:
    assert passes_per_round([4, 1, 8], [8, 8, 8]) == 8


def fair_step() -> tuple[torch.nn.Module, Fair, Batch]:
    """Return a small supernet whose gradients one fair step has filled, what did it, and the batch."""
    torch.manual_seed(0)
    model = create_model("local_vim_nano", directions=FOUR, merge="weighted", depth=2, embed_dim=8, num_classes=3).train()
    policy = BranchPolicy(model, RELAXATIONS["uniform"], (2, 2), (2, 2), 0)
    fair = Fair(policy, Timing(8, 1))
    batch = Batch(torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]), torch.arange(4))
    optimizer = torch.optim.SGD([p for _, p in weight_parameters(model)], lr=0.0)
    trainer = Trainer(model, optimizer, OBJECTIVE, lambda step: 0.0, Precision(torch.device("cpu")), seed=0, hook=fair)
    with policy.attached():
        trainer.step(batch, epoch=0, index=0, lr=0.0)
    return model, fair, batch


def test_the_gradient_of_a_step_is_the_mean_over_its_sets() -> None:
    model, fair, batch = fair_step()
    found = {name: p.grad.clone() for name, p in weight_parameters(model) if p.grad is not None}
    model.zero_grad()
    total = 0.0
    for chosen in fair.sets:
        layers = {layer: tuple(FOUR[i] for i in picked) for layer, picked in chosen.items()}
        with running(model, masked(model, layers)):
            total = total + OBJECTIVE.losses(model(batch.inputs), batch.targets).mean() / len(fair.sets)
    total.backward()
    for name, p in weight_parameters(model):
        if p.grad is not None:
            torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-6)


def test_held_out_steps_minimise_the_loss_of_the_recipe() -> None:
    cfg = compose_settings(Search, ["search=bilevel", "optim.label_smoothing=0.5", "model.depth=1", "model.embed_dim=8"])
    source, precision = build_data(cfg.data), build_precision(cfg)
    setup, loaders = search_setup(cfg, source), search_data(cfg, source, precision)
    trainer = open_session(cfg, setup, loaders, source, precision).trainer
    logits, targets = torch.eye(10), torch.arange(10)
    losses = trainer.hook.objective.losses(logits, targets)
    assert torch.equal(losses, trainer.objective.losses(logits, targets))
    assert not torch.equal(losses, OBJECTIVE.losses(logits, targets))


def test_fewer_passes_spread_a_round_of_turns_over_steps() -> None:
    _, fair, batch = fair_step()
    whole = fair.round(3, 2)["layers.0"]
    fair.passes = 1
    seen = []
    for step in (6, 7):
        fair.before_step(batch, epoch=0, step=step, lr=0.1)
        assert len(fair.sets) == 1
        seen.append(fair.sets[0]["layers.0"])
    assert seen == whole and sorted(seen[0] + seen[1]) == [0, 1, 2, 3]


def test_every_branch_learns_in_every_step() -> None:
    model, *_ = fair_step()
    for mixer in named_mixers(model).values():
        stacked = [p for p in mixer.parameters(recurse=False) if p is not mixer.alphas and p.grad is not None]
        assert all((p.grad.flatten(1) != 0).any(1).all() for p in stacked if len(p) == len(FOUR))
        assert mixer.alphas.grad is None


class Landscape(climbing.Masked):
    """Losses that a function gives instead of a supernet."""

    def __init__(self, function: object) -> None:
        super().__init__(None, None)
        self.function = function

    def losses(self, choices: Sequence[dict]) -> list[float]:
        self.known |= {tuple(choice.values()): self.function(choice) for choice in choices}
        return [self.known[tuple(choice.values())] for choice in choices]


def redundant(choice: dict) -> float:
    """h and v are the best two by themselves, but h and w4 do different work: no value per direction says so."""
    alone = {"h": 0.5, "v": 0.45, "w2": 0.0, "w4": 0.3}
    total = 1.0
    for layer in choice.values():
        total -= sum(alone[name] for name in layer) - (0.45 if {"h", "v"} <= set(layer) else 0.0)
    return total


def test_a_climb_sees_that_two_good_directions_do_the_same_work() -> None:
    candidates = {"a": FOUR, "b": FOUR}
    for start in (("h", "v"), ("w2", "w4"), ("v", "w2")):
        found = climbing.climb(Landscape(redundant), candidates, {"a": start, "b": ("h", "v")})
        assert found == {"a": ("h", "w4"), "b": ("h", "w4")}


def test_a_climb_ends_where_no_swap_helps_and_values_say_by_how_much() -> None:
    torch.manual_seed(1)
    table: dict[tuple, float] = {}
    losses = Landscape(lambda choice: table.setdefault(tuple(choice.values()), torch.rand(()).item()))
    candidates = {"a": FOUR, "b": FOUR}
    found = climbing.climb(losses, candidates, {"a": ("h",), "b": ("v",)})
    swapped = [c for layer in candidates for *_, c in climbing.swaps(found, layer, FOUR)]
    assert len(swapped) == 6 and all(losses.loss(c) >= losses.loss(found) for c in swapped)
    values = climbing.values_of(losses, candidates, found)
    for layer, mine in values.items():
        assert all((v >= 0) == (name in found[layer]) for name, v in mine.items())
        assert max(mine, key=mine.get) in found[layer]
    assert min(v for layer in values for n, v in values[layer].items() if n in found[layer]) == pytest.approx(
        min(losses.loss(c) for c in swapped) - losses.loss(found)
    )


def test_a_loss_that_does_not_care_leaves_the_start_and_even_scores() -> None:
    flat = Landscape(lambda choice: 1.0)
    start = {"a": ("v", "w4")}
    assert climbing.climb(flat, {"a": FOUR}, start) == start
    scores = climbing.as_probabilities(climbing.values_of(flat, {"a": FOUR}, start))
    assert scores["a"] == dict.fromkeys(FOUR, 0.25)


def test_scores_are_on_one_scale_for_all_layers() -> None:
    scores = climbing.as_probabilities({"a": {"h": 1.0, "v": -1.0}, "b": {"h": 0.01, "v": -0.01}})
    assert scores["a"]["h"] > 0.9 and 0.5 < scores["b"]["h"] < 0.52


def test_a_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match="budget=3"):
        climbing.derive_climb(None, {"a": dict.fromkeys(FOUR, 0.25)}, None, Quota(budget=3), seed=0)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("fair") / "run"
    assert main([*FAIR, f"run_dir={run_dir}"]) == 0
    return run_dir


def test_the_same_fair_search_gives_the_same_bytes(searched: Path, tmp_path: Path) -> None:
    assert main([*FAIR, f"run_dir={tmp_path}"]) == 0
    assert (searched / "genotype.json").read_bytes() == (tmp_path / "genotype.json").read_bytes()


def test_a_fair_genotype_says_how_it_was_found_and_nothing_about_alphas(searched: Path) -> None:
    found = lmsearch.load_genotype(searched)
    (layer,) = found.layers
    assert found.derivation["method"] == "halving" and found.derivation["choices_tried"] > 12
    assert len(layer.directions) == 2 and layer.margin >= 0
    assert sorted(layer.scores, key=layer.scores.get)[-2:] == sorted(layer.directions, key=layer.scores.get)
    names = {f["name"] for f in found.health["findings"]}
    assert "advantage" in names and not names & {"entropy", "usefulness", "discretisation gap", "sharpness"}
    assert found.health["status"] in ("ok", "indeterminate") and "memorisation" in names


def test_derive_searches_again_and_takes_another_keep(searched: Path, tmp_path: Path) -> None:
    derive = ["derive", f"checkpoint={searched}"]
    assert main([*derive, f"run_dir={tmp_path / 'same'}"]) == 0
    assert lmsearch.load_genotype(tmp_path / "same").directions == lmsearch.load_genotype(searched).directions
    assert main([*derive, "keep=4", f"run_dir={tmp_path / 'four'}"]) == 0
    assert [len(layer) for layer in lmsearch.load_genotype(tmp_path / "four").directions] == [4]


def test_a_consensus_of_fair_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict] = []
    monkeypatch.setattr("lmsearch.tasks.search.TrainingProgress", lambda *a, **k: shown.append(k) or TrainingProgress(*a, **k))
    assert main([*FAIR, "seeds=2", "search.health_every=0", f"run_dir={tmp_path}"]) == 0
    found = lmsearch.load_genotype(tmp_path)
    assert found.derivation == {"method": "consensus", "of": "halving"}
    assert "entropy" not in found.health and "entropy" not in {f["name"] for f in found.health["findings"]}
    first, last = shown
    assert first["later"] == pytest.approx(first["total_steps"] + 2 * last["later"]), "the time left is that of all seeds"


def test_the_metrics_of_a_fair_search_are_those_of_what_it_chose(searched: Path) -> None:
    line = json.loads((searched / "metrics.jsonl").read_text().splitlines()[-1])
    assert "probabilities" not in line and "holdout_loss" in line
    assert len(line["worth"]["layers.0"]) > 2, "what directions are worth so far"
    health = lmsearch.load_genotype(searched).health
    assert "entropy" not in health and "recovered" not in health


def test_alphas_are_judged_as_they_are_when_a_climb_chose(tmp_path: Path) -> None:
    words = [*TINY, "search=darts", "search.derivation=climb", "search.alpha_lr=0.5", "keep=2", f"run_dir={tmp_path}"]
    assert main(["search", *words]) == 0
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert lmsearch.load_genotype(tmp_path).health["entropy"] == pytest.approx(line["health/entropy/layers.0"], abs=1e-5)


@pytest.mark.parametrize("preset", ["sampled", "bilevel"])
def test_any_supernet_can_be_climbed(preset: str, tmp_path: Path) -> None:
    words = [*TINY, f"search={preset}", "search.derivation=climb", "keep=2", f"run_dir={tmp_path}"]
    assert main(["search", *words]) == 0
    assert lmsearch.load_genotype(tmp_path).derivation["method"] == "climb"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["search=darts", "search.relaxation=uniform"], "only go together"),
        (["search.relaxation=softmax"], "only go together"),
        (["search.architect=bilevel"], "only go together"),
        (["search=fair", "search.derivation=topk"], "use halving"),
        (["search=fair", "search.shrink=[[0.5,4]]"], "search.shrink"),
        (["search=fair", "search.samples=4"], "search.samples=4"),
        (["search=fair", "search.temperature=2"], "search.temperature=2"),
        (["search=fair", "search.order=2"], "search.order=2"),
        (["search=fair", "search.alpha_warmup_epochs=1"], "search.alpha_warmup_epochs=1"),
        (["search=fair", "keep=null", "budget=3"], "budget=3"),
        (["search=fair", "keep=4", "search.passes=3"], "accepted: 1 to 2"),
        (["search=darts", "search.passes=2"], "needs search=fair"),
    ],
)
def test_contradictions_are_one_line_and_nothing_is_written(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", *TINY, *words, f"run_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_derive_refuses_a_budget_that_it_cannot_spend(searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["derive", f"checkpoint={searched}", "budget=2", f"run_dir={tmp_path / 'out'}"]) == 2
    assert "perturbation" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main(["derive", f"checkpoint={searched}", "budget=2", "derivation=perturbation", f"run_dir={tmp_path / 'out'}"]) == 0


def test_derive_by_topk_from_shared_weights_is_refused(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["derive", f"checkpoint={searched}", "derivation=topk"]) == 2
    assert "learned no alphas" in capsys.readouterr().err


def test_a_supernet_that_came_back_from_the_released_format_is_derived_as_its_search_says(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, back = tmp_path / "supernet.pth", tmp_path / "back"
    assert main(["convert", "to=official", f"source={searched}", f"out={file}"]) == 0
    assert main(["convert", f"source={file}", f"out={back}"]) == 0
    assert capsys.readouterr().out.endswith(f"next: lmsearch derive checkpoint={back}\n")
    assert main(["derive", f"checkpoint={back}", "derivation=topk"]) == 2
    assert "learned no alphas" in capsys.readouterr().err
    before, after = load_checkpoint(searched), load_checkpoint(back)
    assert [name for name in TOLD if before.get(name) != after.get(name)] == []
