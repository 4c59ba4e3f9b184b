"""Steps that are not finite are left out without a trace and counted, or the training goes back, alike in all processes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interruptions import signalled
from test_architects import Run
from test_distributed import CPU, RECIPE, Meeting, small
from test_exact_resume import MODEL, equal, trained
from torch import nn

from lmsearch.cli import main
from lmsearch.data import Batch, TrainLoader, build_source
from lmsearch.engine.digest import digest_of
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.finite import TrainingDiverged
from lmsearch.engine.loop import run_epochs
from lmsearch.engine.nonfinite import ANSWERS, MOST_RETURNS, Skips, all_finite, answer_named
from lmsearch.engine.objectives import classification
from lmsearch.engine.recipe import build_trainer
from lmsearch.engine.state import Position
from lmsearch.engine.train import Precision, Trainer, train_one_epoch
from lmsearch.errors import ConfigError
from lmsearch.interrupts import SAVED
from lmsearch.search.architects.kinds import ARCHITECTS, ArchitectKind

BAD = 17  # number of the sample that is no number
WORDS = [
    *MODEL[1:],
    "model.depth=1",
    "model.patch_size=4",
    "batch_size=256",
    "epochs=2",
    "optim.warmup_epochs=0",
    "baseline_limit=0",
]


@contextmanager
def spoiling(monkeypatch: pytest.MonkeyPatch, *, sample: int = BAD) -> Iterator[None]:
    """Let one training sample hold no numbers inside the block, wherever it is seen while gradients are computed."""
    before = Precision.to_device

    def spoilt(self: Precision, batch: Batch) -> Batch:
        batch = before(self, batch)
        if torch.is_grad_enabled():
            batch.inputs[batch.indices == sample] = torch.nan
        return batch

    with monkeypatch.context() as patch:
        patch.setattr(Precision, "to_device", spoilt)
        yield


@pytest.fixture
def retraining(tmp_path: Path) -> list[str]:
    (tmp_path / "cross.json").write_text('[["h", "v"]]')
    return ["retrain", *WORDS, f"genotype={tmp_path / 'cross.json'}"]


def test_a_training_that_ends_names_the_sample_and_keeps_its_number(
    retraining: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with spoiling(monkeypatch):
        assert main([*retraining, f"run_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "the training loss became nan in step" in said and f"(samples {BAD})" in said and "lower optim.lr" in said
    ended = json.loads((tmp_path / "run" / "nonfinite.json").read_text())["ended"]
    assert ended["samples"] == [BAD] and ended["epoch"] == 0
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_steps_that_are_left_out_are_counted_and_a_run_that_was_stopped_counts_on(
    retraining: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*retraining, "optim.on_nonfinite=skip"]
    with spoiling(monkeypatch):
        assert main([*words, f"run_dir={tmp_path / 'whole'}"]) == 0
        with signalled(15, after=6):
            assert main([*words, f"run_dir={tmp_path / 'cut'}"]) == SAVED
        assert json.loads((tmp_path / "cut" / "nonfinite.json").read_text())["skipped_steps"] == 2, "told while it is unfinished"
        assert main([*words, f"run_dir={tmp_path / 'cut'}", "resume=must"]) == 0
    for name in ("metrics.jsonl", "model.safetensors", "nonfinite.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert equal(trained(tmp_path / "cut"), trained(tmp_path / "whole"))
    lines = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert [line["skipped_steps"] for line in lines] == [1, 2] and all(math.isfinite(line["train_loss"]) for line in lines)
    assert json.loads((tmp_path / "cut" / "metrics.json").read_text())["skipped_steps"] == 2
    assert [one["samples"] for one in json.loads((tmp_path / "cut" / "nonfinite.json").read_text())["steps"]] == [[BAD]] * 2


def test_where_all_is_finite_the_answer_changes_no_bit(retraining: list[str], tmp_path: Path) -> None:
    for name in ("stop", "rollback"):
        assert main([*retraining, "epochs=1", f"optim.on_nonfinite={name}", f"run_dir={tmp_path / name}"]) == 0
    assert (tmp_path / "stop" / "model.safetensors").read_bytes() == (tmp_path / "rollback" / "model.safetensors").read_bytes()


def test_a_rate_that_is_too_high_is_lowered_until_the_limit_and_then_said(
    retraining: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    high = ["optim.lr=1e30", "optim.warmup_lr=1e30", "optim.clip_grad=null", "optim.on_nonfinite=rollback"]
    assert main([*retraining, *high, f"run_dir={tmp_path / 'run'}"]) == 2
    assert f"it went back {MOST_RETURNS} times, which did not help" in capsys.readouterr().err
    assert sum("It goes back to epoch 1, step 1" in line for line in caplog.messages) == MOST_RETURNS


class Sensitive:
    """A step hook whose gradients are not finite where the learning rate is above a limit."""

    def __init__(self, model: nn.Module, limit: float) -> None:
        self.model, self.limit, self.rates = model, limit, list[float]()

    def before_step(self, batch: Batch, *, epoch: int, step: int, lr: float) -> None:
        self.rates.append(lr)

    def passes_of_step(self) -> int:
        return 1

    def begin_pass(self, number: int) -> None:
        if self.rates[-1] > self.limit and len(self.rates) > 4:
            self.model.head.weight.data.fill_(math.nan)

    def after_backward(self, scaler: object) -> None:
        """Nothing."""


class Kept:
    """A state in memory, saved when asked to."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.saved, self.notes = trainer, list[tuple[Position, dict]](), list[object]()

    def save(self, position: Position) -> None:
        parts = self.trainer.parts()
        copies = {name: {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in parts[name].state_dict().items()}
                  for name in ("model", "skips", "seen")}  # fmt: skip
        self.saved.append((position, copies))

    def due(self, *, asked: bool) -> bool:
        return False

    def stops(self, *, asked: bool) -> bool:
        return False

    def go_back(self) -> Position:
        position, copies = self.saved[-1]
        for name, copy in copies.items():
            self.trainer.parts()[name].load_state_dict(copy)
        return position

    def note(self, name: str, values: object) -> None:
        self.notes.append(values)


def test_a_training_goes_back_to_what_was_saved_with_lower_rates_and_on_from_there() -> None:
    source, model = build_source("digits"), small()
    loader = TrainLoader(source.train, batch_size=359, seed=3)  # 3 steps
    optimizer, hook, skips = torch.optim.SGD(model.parameters(), lr=0.0), Sensitive(model, 0.03), Skips(ANSWERS["rollback"], 2)
    trainer = Trainer(model, optimizer, classification(), lambda _: 0.1, Precision(CPU), 3, hook=hook, skips=skips)
    state, ends = Kept(trainer), list[int]()
    run_epochs(trainer, loader, epochs=3, state=state, on_epoch=lambda epoch, _: ends.append(epoch))
    assert ends == [0, 1, 2] and skips.rate == 0.25 and skips.returns == 2 and skips.number == 4
    assert hook.rates == [0.1] * 3 + [0.1, 0.1, 0.1] + [0.05] * 2 + [0.025] * 6
    assert [position for position, _ in state.saved] == [(0, 0), (1, 0), (1, 0), (1, 0), (2, 0), (3, 0)]


class Spoilt(TrainLoader):
    """Batches of which one, in one process alone, holds a sample that is no number."""

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            batch.inputs[batch.indices == BAD] = torch.nan
            yield batch


def test_processes_leave_out_the_same_steps_and_name_the_same_samples() -> None:
    recipe = replace(RECIPE, mix_prob=0.0, ema_decay=None, on_nonfinite="skip")

    def run(world: World) -> Trainer:
        source, model = build_source("digits"), small()
        loader = Spoilt(source.train, batch_size=96, seed=3, world=world)
        trainer = build_trainer(recipe, model, model.named_parameters(), loader, source.info, Precision(CPU), seed=3, world=world)
        train_one_epoch(trainer, loader, epoch=0, on_step=lambda *_: None)
        return trainer

    one, (first, second) = run(SINGLE), Meeting(2).run(run)
    assert first.skips.state_dict() == second.skips.state_dict() == one.skips.state_dict()
    assert [step.samples for step in one.skips.steps] == [(BAD,)]
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])
        torch.testing.assert_close(value, one.model.state_dict()[name], rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("kind", ARCHITECTS.values(), ids=ARCHITECTS)
def test_a_step_that_is_left_out_leaves_no_trace_in_weights_alphas_and_optimizers(kind: ArchitectKind) -> None:
    run = Run(kind)
    run.train(0)
    trainer, optimizer = run.trainer, run.alphas
    trainer.skips = Skips(ANSWERS["skip"], 2, optimizer if kind.learns else None)
    parts = {"model": trainer.model, "optimizer": trainer.optimizer, "alphas": optimizer}
    before = {name: digest_of(part.state_dict()) for name, part in parts.items()}
    batch = next(iter(run.weights))
    trainer.step(batch._replace(inputs=batch.inputs * torch.nan), epoch=1, index=0, lr=0.05)
    assert trainer.skips.number == 1
    for name, part in parts.items():
        assert digest_of(part.state_dict()) == before[name], name
    trainer.step(batch, epoch=1, index=0, lr=0.05)
    assert trainer.skips.in_a_row == 0 and digest_of(trainer.model.state_dict()) != before["model"]
    with pytest.raises(TrainingDiverged, match=r"2 steps in a row .* step 2 of epoch 2 \(samples"):
        for _ in range(2):
            trainer.step(batch._replace(inputs=batch.inputs * torch.nan), epoch=1, index=1, lr=0.05)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_not_finite_is_found_in_tensors_of_any_kind(bad: float) -> None:
    tensors = [torch.full((2, 3), 1e300, dtype=torch.float64), torch.empty(0), torch.ones(4), torch.ones(3).bfloat16()]
    assert all_finite(tensors) and all_finite([])
    for tensor in (tensors[0], tensors[2], tensors[3]):
        one = tensor.clone()
        one.view(-1)[1] = bad
        assert not all_finite([*tensors, one])


def test_alphas_of_dropped_directions_count_as_finite_and_no_others() -> None:
    alphas = [torch.tensor([0.0, -math.inf]), torch.zeros(2)]
    skips = Skips(beside=torch.optim.SGD(alphas, lr=0.1))
    assert skips.alphas_are_finite()
    for bad in (math.nan, math.inf):
        alphas[1][1] = bad
        assert not skips.alphas_are_finite()


@pytest.mark.filterwarnings("default")
def test_what_the_loss_scaler_leaves_out_by_itself_does_not_count() -> None:
    source, model = build_source("digits"), small()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    trainer = Trainer(
        model, optimizer, classification(), lambda _: 1e-3, Precision(CPU, "fp16"), 3, skips=Skips(ANSWERS["skip"], 1)
    )
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    batch = next(iter(TrainLoader(source.train, batch_size=32, seed=3)))
    scores = trainer.step(batch, epoch=0, index=0, lr=1e-3)
    assert torch.isfinite(scores.losses).all() and trainer.scaler.get_scale() == 2.0**119
    assert trainer.skips.number == 0


def test_an_unknown_answer_is_one_line(retraining: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*retraining, "optim.on_nonfinite=skp"]) == 2
    assert "optim.on_nonfinite='skp' is not accepted; accepted: stop, skip, rollback" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="did you mean skip"):
        answer_named("skp")
