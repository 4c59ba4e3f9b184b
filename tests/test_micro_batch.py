"""micro_batch: a batch in parts gives what the whole batch gives, up to rounding; here in double precision, to tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_architects import Run
from torch import Tensor

from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.data import Batch
from lmsearch.data.order import cut, paired
from lmsearch.engine.objectives import classification
from lmsearch.engine.optim import adamw, moving_average
from lmsearch.engine.recipe import Recipe, build_mix
from lmsearch.engine.train import Precision, Trainer, evaluate
from lmsearch.models import create_model
from lmsearch.run_identity import run_digest
from lmsearch.search.architects.kinds import ARCHITECTS, ArchitectKind
from lmsearch.settings.tasks import TASKS, Retrain
from lmsearch.tasks.parts.build import build_data, build_precision

CPU = torch.device("cpu")
TOLERANCE = {"rtol": 1e-5, "atol": 1e-7}  # losses are float32, and gradients pass through them
MIX = Recipe(
    epochs=1, batch_size=12, lr=0.0, min_lr=0.0, warmup_lr=0.0, warmup_epochs=0, weight_decay=0.0, betas=(0.9, 0.999),
    clip_grad=None, label_smoothing=0.1, mixup=0.8, cutmix=1.0, mix_prob=1.0, mix_switch_prob=0.5, ema_decay=None,
)  # fmt: skip


def batches(size: int = 12) -> Iterator[Batch]:
    """Yield three batches in double precision."""
    draw = torch.Generator().manual_seed(5)
    for number in range(3):
        inputs = torch.randn(size, 1, 8, 8, generator=draw).double()
        yield Batch(inputs, torch.randint(10, (size,), generator=draw), torch.arange(size) + size * number)


@pytest.mark.parametrize("size", [1, 2, 7, 12])
def test_pairs_that_mixup_mixes_follow_each_other(size: int) -> None:
    places = paired(size).tolist()
    assert sorted(places) == list(range(size))
    for part in cut(paired(size), 2)[: size // 2]:
        assert part.sum() == size - 1


@pytest.mark.parametrize("micro", [2, 4, 6])
def test_what_mixup_mixes_stays_in_one_part(micro: int) -> None:
    (batch, *_) = batches()
    parts = [part for part, _ in Precision(CPU, micro_batch=micro).parts(batch)]
    assert [len(part.inputs) for part in parts] == [micro] * (12 // micro)
    for part in parts:
        assert {11 - place for place in part.indices.tolist()} == set(part.indices.tolist())
        assert torch.equal(part.inputs, batch.inputs[part.indices]) and torch.equal(part.targets, batch.targets[part.indices])


def test_a_part_that_is_smaller_weighs_by_its_samples() -> None:
    (batch, *_) = batches(7)
    shares = [(len(part.inputs), share) for part, share in Precision(CPU, micro_batch=3).parts(batch)]
    assert shares == [(3, 3 / 7), (3, 3 / 7), (1, 1 / 7)]


def trained(micro: int | None, *, clip: float | None = 0.01) -> tuple[Trainer, list[float]]:
    """Train three steps with all that a recipe can have, and return the trainer and the losses of its steps."""
    torch.manual_seed(0)
    model = create_model("local_vim_nano", depth=2, embed_dim=8, drop_path_rate=0.5, backend="reference").double().train()
    optimizer = adamw(model.named_parameters(), lr=1e-2, weight_decay=0.05, betas=(0.9, 0.999))
    weighted = classification(0.1, class_weights=torch.linspace(0.5, 2.0, 10))
    trainer = Trainer(
        model, optimizer, weighted, lambda step: 1e-2, Precision(CPU, micro_batch=micro), 7, clip, build_mix(MIX, build_data(
            compose_settings(Retrain, ["genotype=g"]).data).info), moving_average(model, 0.9),
    )  # fmt: skip
    return trainer, [trainer.step(b, epoch=1, index=i, lr=1e-2).loss for i, b in enumerate(batches())]


@pytest.mark.parametrize("micro", [1, 2, 6, 12])
def test_steps_with_mixup_drop_path_clipping_class_weights_and_averages_are_those_of_the_whole_batch(micro: int) -> None:
    (whole, losses), (parts, others) = trained(None), trained(micro)
    assert losses == pytest.approx(others, rel=1e-6)  # losses are float32
    for name, part in (("weights", "model"), ("averages", "ema")):
        one, other = (t.parts()[part].state_dict() for t in (whole, parts))
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, **TOLERANCE, msg=f"{name}: {key}")


class Doubled:
    """A loader of the test of architects, in double precision and with four samples a batch."""

    def __init__(self, seed: int, size: int) -> None:
        self.seed, self.size, self.epoch = seed, size, 0

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Batch]:
        for number in range(self.size):
            draw = torch.Generator().manual_seed(1000 * self.seed + 100 * self.epoch + number)
            inputs = torch.randn(4, 1, 4, 4, generator=draw).double()
            yield Batch(inputs, torch.randint(2, (4,), generator=draw), torch.arange(4) + 4 * number)


def searched(kind: ArchitectKind, micro: int | None) -> dict[str, Tensor]:
    """Search for an epoch and return weights and alphas."""
    run = Run(kind, weights=Doubled(1, 4), held_out=Doubled(2, 2))
    run.trainer.model.double()
    precision = Precision(CPU, micro_batch=micro)
    run.trainer.precision = precision
    if hasattr(run.trainer.hook, "precision"):
        run.trainer.hook.precision = precision
    run.train(0)
    assert run.forwards >= (4 if micro is None else 4 * 4 // micro)
    return run.trainer.model.state_dict()


@pytest.mark.parametrize("kind", ARCHITECTS.values(), ids=ARCHITECTS)
def test_every_architect_moves_as_on_the_whole_batch(kind: ArchitectKind) -> None:
    whole, parts = searched(kind, None), searched(kind, 2)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("micro", [None, 4])
def test_a_part_that_overflows_skips_the_step_and_halves_the_scale_once(micro: int | None) -> None:
    torch.manual_seed(0)
    model = create_model("local_vim_nano", depth=1, embed_dim=8).train()
    optimizer = adamw(model.named_parameters(), lr=1e-2, weight_decay=0.05, betas=(0.9, 0.999))
    trainer = Trainer(model, optimizer, classification(), lambda step: 1e-2, Precision(CPU, "fp16", micro), 7)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    good = [batch._replace(inputs=batch.inputs.float()) for batch in batches()]
    bad = good[0]._replace(inputs=good[0].inputs.index_fill(0, torch.tensor([3]), 1e30))
    scale = trainer.scaler.get_scale()
    trainer.step(bad, epoch=0, index=0, lr=1e-2)
    assert trainer.scaler.get_scale() == scale / 2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    trainer.step(good[1], epoch=0, index=1, lr=1e-2)
    assert trainer.scaler.get_scale() == scale / 2 and not torch.equal(model.head.weight, before["head.weight"])


def test_evaluation_in_parts_keeps_the_order_of_the_samples() -> None:
    torch.manual_seed(0)
    model = create_model("local_vim_nano", depth=1, embed_dim=8, backend="reference").double()
    whole, parts = (evaluate(model, batches(), classification(), Precision(CPU, micro_batch=m)) for m in (None, 5))
    torch.testing.assert_close(parts.losses, whole.losses, **TOLERANCE)
    assert torch.equal(parts.classes, whole.classes) and torch.equal(parts.sums, whole.sums)


@pytest.mark.parametrize("task", ["search", "retrain", "compare", "audit"])
def test_the_key_reaches_the_training_and_makes_no_other_run_where_it_is_null(task: str) -> None:
    words = ["genotype=g"] if task in ("retrain", "compare") else []
    plain, null, cut16 = (
        compose_settings(TASKS[task], [*words, *more]) for more in ([], ["micro_batch=null"], ["micro_batch=16"])
    )
    assert [build_precision(settings).micro_batch for settings in (plain, null, cut16)] == [None, None, 16]
    assert run_digest(plain.content) == run_digest(null.content) != run_digest(cut16.content)
    before = {key: value for key, value in plain.content.items() if key != "micro_batch"}
    assert run_digest(before) == run_digest(null.content), "folders of versions without the key go on"


@pytest.mark.parametrize("task", ["search", "retrain", "compare"])
def test_what_does_not_divide_is_refused_with_one_clear_line(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "g.json").write_text('[["h"], ["h"], ["h"]]')
    words = [] if task == "search" else [f"genotype={tmp_path / 'g.json'}"]
    assert main([task, *words, "batch_size=48", "micro_batch=20", f"run_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.endswith("micro_batch=20 does not divide batch_size=48; the next smaller one that does is 16")
    assert not (tmp_path / "run").exists()
    assert main([task, *words, "micro_batch=0", f"run_dir={tmp_path / 'run'}"]) == 2
