"""The world of processes: alone, everything is as it was; two processes together train as one. Nothing is started here."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lmsearch.data import TrainLoader, build_source
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.recipe import Recipe, build_trainer
from lmsearch.engine.train import Precision, Trainer, train_one_epoch
from lmsearch.errors import LmsearchError
from lmsearch.models import create_model

CPU = torch.device("cpu")
RECIPE = Recipe(
    epochs=1, batch_size=96, lr=1e-2, min_lr=0.0, warmup_lr=0.0, warmup_epochs=0, weight_decay=0.05, betas=(0.9, 0.999),
    clip_grad=0.5, label_smoothing=0.1, mixup=0.8, cutmix=1.0, mix_prob=1.0, mix_switch_prob=0.5, ema_decay=0.9,
)  # fmt: skip


class Meeting:
    """Threads that play processes: each leaves its tensor and takes those of all."""

    def __init__(self, size: int) -> None:
        self.size, self.left = size, [torch.empty(0)] * size
        self.barrier = threading.Barrier(size, timeout=300)

    def world(self, rank: int) -> World:
        """Return the world of one thread."""

        def exchange(tensor: Tensor) -> list[Tensor]:
            self.left[rank] = tensor.clone()
            self.barrier.wait()
            everything = list(self.left)
            self.barrier.wait()
            return everything

        return World(rank, self.size, exchange=exchange)

    def run(self, work: Callable[[World], object]) -> list[object]:
        """Do `work` in every process and return the results by rank, or the exceptions."""
        results: list[object] = [None] * self.size

        def one(rank: int) -> None:
            try:
                results[rank] = work(self.world(rank))
            except LmsearchError as error:
                results[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


def test_the_single_process_is_the_world_that_there_is_without_saying() -> None:
    tensor = torch.arange(3.0)
    SINGLE.mean_([tensor])
    SINGLE.assert_same("ab" * 32, what="the genotype")
    assert SINGLE == World() and SINGLE.main and (SINGLE.rank, SINGLE.size) == (0, 1)
    assert torch.equal(tensor, torch.arange(3.0)) and torch.equal(SINGLE.gather(tensor), tensor)


def test_a_mean_is_that_over_processes_and_only_one_writes() -> None:
    def work(world: World) -> tuple[bool, list[float]]:
        tensors = [torch.full((2,), float(world.rank)), torch.tensor(10.0 * world.rank)]
        world.mean_(tensors)
        return world.main, [tensors[0].tolist(), tensors[1].item()]

    assert Meeting(2).run(work) == [(True, [[0.5, 0.5], 5.0]), (False, [[0.5, 0.5], 5.0])]


@pytest.mark.parametrize("count", [1, 6, 7])
def test_gathered_samples_are_in_the_order_of_the_whole_set(count: int) -> None:
    whole = torch.arange(2 * count).view(count, 2)
    for found in Meeting(2).run(lambda world: world.gather(whole[world.rank :: world.size])):
        assert torch.equal(found, whole)


def test_processes_that_differ_are_one_clear_line() -> None:
    same = Meeting(2).run(lambda world: world.assert_same("0f" * 32, what="the run"))
    assert same == [None, None]
    for error in Meeting(2).run(lambda world: world.assert_same(f"{world.rank:02x}" * 32, what="the run")):
        assert str(error) in ("the run of process 1 is not that of process 0", "the run of process 0 is not that of process 1")


@pytest.mark.parametrize(("rank", "size", "message"), [(2, 2, "expected 0 to 1"), (-1, 1, "rank is -1"), (0, 2, "exchange")])
def test_a_world_that_cannot_be_is_refused(rank: int, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        World(rank, size)


def trained(world: World) -> Trainer:
    """Train an epoch with all that a recipe can have."""
    source = build_source("digits")
    model = create_model("local_vim_nano", depth=1, embed_dim=8, drop_path_rate=0.5, patch_size=2, backend="reference")
    weights = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=weights) * 0.1)
    loader = TrainLoader(source.train, batch_size=RECIPE.batch_size, seed=3, world=world)
    precision = Precision(CPU)
    trainer = build_trainer(RECIPE, model, model.named_parameters(), loader, source.info, precision, seed=3, world=world)
    train_one_epoch(trainer, loader, epoch=0, on_step=lambda *_: None)
    return trainer


def test_two_processes_train_as_one_with_mixup_drop_path_clipping_and_averages() -> None:
    one, (first, second) = trained(SINGLE), Meeting(2).run(trained)
    for part in ("model", "ema"):
        whole = one.parts()[part].state_dict()
        for name, value in first.parts()[part].state_dict().items():
            assert torch.equal(value, second.parts()[part].state_dict()[name]), f"{name}: the processes agree"
            torch.testing.assert_close(value, whole[name], rtol=1e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}")
