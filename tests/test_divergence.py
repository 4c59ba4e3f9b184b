"""Numbers that are not finite: noticed before anything is kept, with advice; what was good stays."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from plain_masking import PlainMasking
from torch import nn

from lmsearch.cli import main
from lmsearch.data import Batch
from lmsearch.engine.checkpoint import load_checkpoint, read_model, save_checkpoint, save_model
from lmsearch.engine.finite import TrainingDiverged, largest, unfinite
from lmsearch.engine.objectives import Scores, classification
from lmsearch.engine.optim import adamw, moving_average
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.train import Precision, Trainer, evaluate, train_one_epoch
from lmsearch.genotype import LayerChoice
from lmsearch.models import create_model
from lmsearch.search.discrete.evaluators import SharedWeights
from lmsearch.search.trust.health import check_health

CPU = Precision(torch.device("cpu"))
TINY = ["data=digits", "model.depth=1", "model.embed_dim=8", "model.patch_size=4", "batch_size=512", "optim.warmup_epochs=0"]
HUGE = ["optim.lr=1e30", "optim.warmup_lr=1e30", "optim.clip_grad=null"]


class Batches(list):
    """A list of batches as a train loader."""

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        self.epoch = epoch


class Sabotage:
    """A step hook that ruins weights just before the last step of an epoch moves them."""

    def __init__(self, ruin: Callable[[], None], *, steps: int) -> None:
        self.ruin, self.left = ruin, steps

    def before_step(self, batch: object, **_: object) -> None:
        """Nothing."""

    def passes_of_step(self) -> int:
        return 1

    def begin_pass(self, number: int) -> None:
        """Nothing."""

    def after_backward(self, scaler: object) -> None:
        """Count down and strike."""
        self.left -= 1
        if self.left == 0:
            self.ruin()


def nano() -> nn.Module:
    torch.manual_seed(0)
    return create_model("local_vim_nano", depth=1, embed_dim=8)


def batches(count: int = 2) -> Batches:
    g = torch.Generator().manual_seed(5)
    return Batches(
        Batch(torch.randn(4, 1, 8, 8, generator=g), torch.randint(10, (4,), generator=g), torch.arange(4)) for _ in range(count)
    )


def trainer(model: nn.Module, *, lr: float = 1e-3, **options: object) -> Trainer:
    optimizer = adamw(model.named_parameters(), lr=lr, weight_decay=0.05, betas=(0.9, 0.999))
    return Trainer(model, optimizer, classification(), lambda step: lr, CPU, seed=7, **options)


def epoch_of(t: Trainer) -> None:
    train_one_epoch(t, batches(), epoch=2, on_step=lambda *_: None)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_ruins_the_last_step_is_seen_in_its_epoch(value: float) -> None:
    model = nano()
    ruin = Sabotage(lambda: model.head.weight.grad.fill_(value), steps=2)
    with pytest.raises(TrainingDiverged, match=r"after epoch 3 \(.*lower optim.lr \(0.001 there\) or set optim.clip_grad"):
        epoch_of(trainer(model, hook=ruin))


def test_finite_weights_that_overflow_are_seen_in_their_epoch() -> None:
    model = nano()
    ruin = Sabotage(lambda: [p.data.fill_(1e30) for p in model.parameters()], steps=2)
    with pytest.raises(TrainingDiverged, match="grew to 1e.30 in epoch 3"):
        epoch_of(trainer(model, hook=ruin))


def test_large_weights_that_work_are_trained_on() -> None:
    model = nano()
    model.head.bias.data.fill_(100.0)
    epoch_of(trainer(model))


def test_an_average_of_the_optimizer_or_of_the_weights_that_overflows_is_seen() -> None:
    model = nano()
    with pytest.raises(TrainingDiverged, match=r"\(optimizer.exp_avg_sq\)"):  # 1e25 squared; the weights hardly move
        epoch_of(trainer(model, hook=Sabotage(lambda: model.head.bias.grad.fill_(1e25), steps=2)))
    model = nano()
    ema = moving_average(model, 0.5)
    with pytest.raises(TrainingDiverged, match=r"\(head.bias\)"):
        epoch_of(trainer(model, ema=ema, hook=Sabotage(lambda: ema.module.head.bias.data.fill_(math.inf), steps=2)))


def test_alphas_that_diverge_are_told_from_weights_and_dropped_ones_are_no_fault() -> None:
    alphas = torch.tensor([0.0, -math.inf, 1.0])
    assert unfinite([("layers.0.mixer.alphas", alphas)]) == [] and largest([("alphas", alphas)]) == 1.0
    assert unfinite([("weight", alphas)]) == ["weight"]
    model = create_model("local_vim_nano", directions=["h", "v"], merge="weighted", depth=1, embed_dim=8)
    mixer = next(m for m in model.modules() if getattr(m, "alphas", None) is not None)

    def ruin() -> None:
        mixer.alphas.data[0] = math.nan

    t = trainer(model, hook=Sabotage(ruin, steps=2))
    mixer.alphas.requires_grad_(False)  # they have an optimizer of their own
    with pytest.raises(TrainingDiverged, match="lower search.alpha_lr"):
        epoch_of(t)


@pytest.mark.parametrize("word", ["search.alpha_lr=1e39", "optim.lr=1e39", "optim.min_lr=1e39"])
def test_a_rate_beyond_single_precision_is_out_of_range(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "search=darts", word]) == 2
    assert f"{word.partition('=')[0]}=1e+39 is out of range; accepted: 0.0 to 1e+30" in capsys.readouterr().err


def test_scores_of_outputs_that_are_not_finite_are_refused() -> None:
    model = nano()
    model.head.bias.data[3] = math.nan
    with pytest.raises(TrainingDiverged, match="8 of 8 test losses are not finite"):
        evaluate(model, batches(), classification(), CPU, what="test")
    net = create_model("local_vim_nano", directions=["h", "v"], merge="weighted", depth=1, embed_dim=8)
    net.head.bias.data[3] = math.nan

    def scores(module: nn.Module) -> Scores:
        return evaluate(module, batches(), classification(), CPU)

    assert SharedWeights(net, scores, classification(), 4, 8)((("h",),)).score == -math.inf
    choices = [LayerChoice(("v",), "layers.0", {"h": 0.1, "v": 0.9}, 0.8)]
    health = check_health(net, choices, PlainMasking(scores), seed=0, alphas={"layers.0": choices[0].scores})
    assert health.status == "indeterminate" and "not finite" in health.reason


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("task", [["retrain", "genotype=hv.json"], ["compare", "genotype=hv.json"], ["search", "search=darts"]])
def test_a_task_that_diverges_leaves_neither_checkpoint_nor_result(
    task: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hv.json").write_text(json.dumps({"schema": "lmsearch.genotype", "version": 1, "layers": [{"directions": ["h", "v"]}]}))
    assert main([*task, *TINY, *HUGE, "epochs=1", "run_dir=run"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("lmsearch: error:") and "lower optim.lr" in said
    kept = ("checkpoint.pt", "model.safetensors", "metrics.json", "comparison.json", "genotype.png")
    assert [p for p in Path("run").rglob("*") if p.name in kept] == []


def test_stored_weights_that_are_not_finite_are_refused_by_whoever_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hv.json").write_text(json.dumps({"schema": "lmsearch.genotype", "version": 1, "layers": [{"directions": ["h", "v"]}]}))
    retrain = ["retrain", "genotype=hv.json", *TINY, "epochs=1"]
    assert main([*retrain, "run_dir=run"]) == 0
    spec, weights = read_model(Path("run"))
    weights["head.bias"][3] = math.nan
    save_model(RunDir(Path("run")), spec, weights)
    Image.new("L", (8, 8)).save("x.png")
    for words in (["evaluate", "checkpoint=run"], ["predict", "checkpoint=run", "images=x.png"], [*retrain, "init_from=run"]):
        assert main(words) == 2
        assert "weights are not finite (head.bias)" in capsys.readouterr().err
    state = load_checkpoint(Path("run"))
    state["model"]["head.bias"][3] = math.inf
    save_checkpoint(RunDir(Path("run")), state)
    assert main([*retrain, "run_dir=run"]) == 2
    assert "overwrite=true and a lower optim.lr" in capsys.readouterr().err
    assert main([*retrain, "run_dir=run", "overwrite=true", "optim.lr=1e-4"]) == 0
