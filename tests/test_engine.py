"""The training loop: schedule, groups, keyed randomness, checkpoints that give back what they got."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lmsearch.data import Batch, build_source
from lmsearch.data.loaders import build_loaders
from lmsearch.engine.checkpoint import ModelSpec, load_checkpoint, load_weights, read_model, save_checkpoint, save_model
from lmsearch.engine.log import RunLog
from lmsearch.engine.objectives import Scores, classification, dense_regression
from lmsearch.engine.optim import Cosine, adamw, decay_groups, moving_average, undecayed
from lmsearch.engine.randomness import generator, key
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.train import Precision, Trainer, TrainingDiverged, evaluate, train_one_epoch, validate_and_test
from lmsearch.errors import CheckpointError
from lmsearch.models import create_model

CPU = Precision(torch.device("cpu"))


class Batches(list):
    """A list of batches as a train loader."""

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        self.epoch = epoch


def nano(**options) -> nn.Module:
    torch.manual_seed(0)
    return create_model("local_vim_nano", depth=2, embed_dim=16, **options)


def batches(count: int = 3) -> Batches:
    g = torch.Generator().manual_seed(5)
    return Batches(
        Batch(torch.randn(4, 1, 8, 8, generator=g), torch.randint(10, (4,), generator=g), torch.arange(4)) for _ in range(count)
    )


def trainer(model: nn.Module, **options) -> Trainer:
    optimizer = adamw(model.named_parameters(), lr=1e-3, weight_decay=0.05, betas=(0.9, 0.999))
    return Trainer(model, optimizer, classification(0.1), lambda step: 1e-3, CPU, seed=7, **options)


def ignore(*_: object) -> None:
    pass


def test_warm_up_rises_to_the_unshifted_cosine_which_ends_at_the_minimum() -> None:
    lr = Cosine(lr=1.0, min_lr=0.1, warmup_lr=0.0, warmup_steps=10, total_steps=100)
    assert [lr(0), lr(4), lr(9)] == pytest.approx([0.1, 0.5, 1.0])
    assert lr(50) == pytest.approx(0.55)
    assert lr(99) == pytest.approx(0.1, abs=1e-3)
    assert all(lr(s) >= lr(s + 1) for s in range(10, 99))


def test_the_cosine_of_localmambas_recipe_begins_where_the_warm_up_ends() -> None:
    lr = Cosine(lr=1e-3, min_lr=1e-6, warmup_lr=1e-7, warmup_steps=200, total_steps=1000, warmup_prefix=True)
    assert [lr(199), lr(200)] == [1e-3, 1e-3]
    released = {30: 9.627e-4, 50: 6.935e-4, 60: 5.025e-4, 75: 2.246e-4, 90: 3.978e-5, 99: 1.466e-6}  # of epochs of 10 steps
    assert {epoch: lr(10 * epoch - 1) for epoch in released} == pytest.approx(released, rel=1e-3)  # theirs lags by one step


@pytest.mark.parametrize("name", ["local_vim_nano", "local_vmamba_nano"])
def test_vectors_and_positions_are_not_decayed_and_matrices_are(name: str) -> None:
    model = create_model(name)
    decayed, free_group = decay_groups(model.named_parameters(), 0.05, skip=undecayed(model))
    assert (decayed["weight_decay"], free_group["weight_decay"]) == (0.05, 0.0)
    names = {id(p): n for n, p in model.named_parameters()}
    kept = {names[id(p)].rsplit(".", 1)[-1] for p in decayed["params"]}
    free = {names[id(p)].rsplit(".", 1)[-1] for p in free_group["params"]}
    assert {"A_log", "x_proj_weight", "dt_proj_weight", "weight"} <= kept
    assert {"D", "dt_proj_bias", "bias"} <= free
    assert not kept & {"D", "dt_proj_bias", "bias", "pos_embed", "conv_bias"}
    assert len(decayed["params"]) + len(free_group["params"]) == len(names)


def test_addresses_give_equal_streams_and_different_addresses_different_ones() -> None:
    assert torch.equal(torch.rand(4, generator=generator(0, "mix", 3)), torch.rand(4, generator=generator(0, "mix", 3)))
    assert len({key(s, "mix", e, i) for s in range(3) for e in range(3) for i in range(3)}) == 27


def test_training_twice_gives_the_same_weights_whatever_was_drawn_before() -> None:
    results = []
    for disturb in (0, 17):
        model = nano(drop_path_rate=0.3)
        torch.rand(disturb)
        train_one_epoch(trainer(model, clip_grad=1.0), batches(), epoch=1, on_step=ignore)
        results.append(model.state_dict())
    assert all(torch.equal(results[0][k], results[1][k]) for k in results[0])


def test_a_loss_that_is_not_finite_stops_training_with_advice() -> None:
    bad = Batches([Batch(torch.full((4, 1, 8, 8), torch.nan), torch.zeros(4, dtype=torch.long), torch.arange(4))])
    with pytest.raises(TrainingDiverged, match="optim.lr"):
        train_one_epoch(trainer(nano()), bad, epoch=0, on_step=ignore)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_trains_with_finite_weights(precision: str) -> None:
    model = nano()
    t = trainer(model)
    t.precision = Precision(torch.device("cpu"), precision)
    train_one_epoch(t, batches(), epoch=0, on_step=ignore)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_the_moving_average_lies_between_start_and_end() -> None:
    model = nano()
    start = model.head.weight.detach().clone()
    ema = moving_average(model, 0.5)
    train_one_epoch(trainer(model, ema=ema), batches(), epoch=0, on_step=ignore)
    assert not torch.equal(ema.module.head.weight, model.head.weight)
    assert not torch.equal(ema.module.head.weight, start)


def test_the_moving_average_is_that_of_pytorch_to_the_bit_but_whole_numbers_are_those_of_the_model() -> None:
    model = nano()
    model.register_buffer("order", torch.randperm(196))
    ours, its = moving_average(model, 0.9), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(3):
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.add_(torch.rand(tensor.shape).mul(9))
        ours.update_parameters(model)
        its.update_parameters(model)
        wanted = its.state_dict() | {"module.order": model.order}
        assert all(torch.equal(ours.state_dict()[name], value) for name, value in wanted.items())
    assert ours.state_dict().keys() == its.state_dict().keys() and ours.n_averaged == 3


def test_evaluation_counts_every_sample_without_gradients() -> None:
    scores = evaluate(nano(), batches(), classification(), CPU)
    assert scores.losses.shape == scores.scores.shape == (12,)
    assert not scores.losses.requires_grad


def test_counts_of_classes_are_kept_once_and_not_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[list[int]] = []
    joined = Scores.concatenate

    def watched(listed: list[Scores]) -> Scores:
        kept.append([int(scores.sums is not None) for scores in listed])
        return joined(listed)

    monkeypatch.setattr(Scores, "concatenate", watched)
    scores = evaluate(nano(), batches(), classification(), CPU)
    assert kept == [[1, 0, 0]]  # of 1,000 classes each has 8 MB
    by_hand = torch.zeros(10, dtype=torch.int64).index_add_(0, torch.cat([b.targets for b in batches()]), torch.ones(12).long())
    assert torch.equal(scores.class_counts[:, :-1].sum(1), by_hand)


def test_a_set_that_validates_and_tests_is_measured_once() -> None:
    source = build_source("digits")
    alone = build_loaders(replace(source, test=source.val), batch_size=256, seed=0)
    model = create_model("local_vim_nano", depth=1, embed_dim=8, in_chans=1, img_size=8).eval()
    val, test = validate_and_test(model, alone, classification(), CPU)
    assert test is val and alone.num_measured == len(val.losses) == alone.val.num_samples
    both = build_loaders(source, batch_size=256, seed=0)
    val, test = validate_and_test(model, both, classification(), CPU)
    assert both.num_measured == len(val.losses) + len(test.losses) > len(val.losses)


def test_dense_regression_is_the_mean_square_over_tokens() -> None:
    outputs, targets = torch.zeros(2, 5, 1), torch.full((2, 5, 1), 2.0)
    assert dense_regression().losses(outputs, targets).tolist() == [4.0, 4.0]


def test_soft_targets_are_not_smoothed_twice() -> None:
    logits = torch.randn(3, 10)
    soft = torch.full((3, 10), 0.1)
    assert torch.equal(classification(0.5).losses(logits, soft), classification(0.0).losses(logits, soft))


def test_model_and_description_come_back_whole(tmp_path: Path) -> None:
    model = nano()
    spec = ModelSpec(
        "local_vim_nano",
        tuple(m.directions for m in model.modules() if hasattr(m, "directions")),
        "sum",
        {"depth": 2, "embed_dim": 16},
    )
    save_model(RunDir(tmp_path), spec, model.state_dict())
    again, weights = read_model(tmp_path)
    assert again == spec
    rebuilt = again.build()
    load_weights(rebuilt, weights, source="test")
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(model.eval()(x), rebuilt.eval()(x))


def test_a_checkpoint_of_another_model_is_refused_and_nothing_is_loaded() -> None:
    model, other = nano(), create_model("local_vim_nano", depth=2, embed_dim=32)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="another model"):
        load_weights(model, other.state_dict(), source="other.pt")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_damaged_and_missing_checkpoints_are_one_clear_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "checkpoint.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checkpoint"):
        load_checkpoint(path)


def test_truncated_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(RunDir(tmp_path), {"spec": {}, "epoch": 1})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="not a readable"):
        load_checkpoint(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="not an lmsearch checkpoint"):
        load_checkpoint(path)


def test_a_continued_log_drops_the_epochs_that_run_again(tmp_path: Path) -> None:
    with RunLog(RunDir(tmp_path)) as log:
        for epoch in range(3):
            log.write(epoch, {"loss": float(epoch)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "lo')  # what a full disk leaves
    with RunLog(RunDir(tmp_path), start_epoch=2) as log:
        log.write(2, {"loss": 9.0})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["loss"]) for line in lines] == [(0, 0.0), (1, 1.0), (2, 9.0)]


@pytest.mark.filterwarnings("default")
def test_what_another_run_did_leaves_no_trace_in_the_loss_scale() -> None:
    half = Precision(torch.device("cpu"), "fp16")

    def trained(before: int) -> tuple[dict, dict]:
        """Train after so many steps of another trainer of the same precision."""
        other = trainer(nano())
        other.precision, other.scaler = half, half.scaler()
        for index, batch in enumerate(batches(before)):
            other.step(batch, epoch=0, index=index, lr=1e-3)
        model = nano()
        optimizer = adamw(model.named_parameters(), lr=1e-3, weight_decay=0.05, betas=(0.9, 0.999))
        mine = Trainer(model, optimizer, classification(0.1), lambda step: 1e-3, half, seed=7)
        for index, batch in enumerate(batches(2)):
            mine.step(batch, epoch=0, index=index, lr=1e-3)
        return mine.scaler.state_dict(), model.state_dict()

    (alone, weights), (after, others) = trained(0), trained(3)
    assert alone == after and alone["_growth_tracker"] == 2
    assert all(torch.equal(weights[name], others[name]) for name in weights)
