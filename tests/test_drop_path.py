"""Drop path: a sample's mask depends on seed, epoch, sample and layer, never on the batch that it is in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from lmsearch.data import Batch
from lmsearch.engine.objectives import classification
from lmsearch.engine.randomness import COLUMNS, SampleDraws, by_sample
from lmsearch.engine.train import Precision, Trainer
from lmsearch.models import create_model
from lmsearch.models.drop_path import DropPath

CPU = torch.device("cpu")


def batch_of(indices: Sequence[int]) -> Batch:
    """Return samples whose inputs follow from their numbers."""
    numbers = torch.tensor(indices)
    inputs = torch.stack([torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(i)) for i in indices])
    return Batch(inputs, numbers % 10, numbers)


def kept(indices: Sequence[int], *, layer: int = 0, seed: int = 0, epoch: int = 0, rate: float = 0.5) -> list[bool]:
    """Return which samples a layer keeps."""
    batch = batch_of(indices)
    with by_sample(batch, seed=seed, epoch=epoch):
        return (DropPath(rate, layer).train()(torch.ones(len(indices), 3, 2)) != 0)[:, 0, 0].tolist()


def test_a_sample_has_its_mask_in_any_batch_at_any_place() -> None:
    whole = dict(zip(range(40), kept(range(40)), strict=True))
    for indices in ([7], [39, 0, 7], [*range(0, 40, 2)], [*range(1, 40, 2)], [7, 7, 8]):
        assert kept(indices) == [whole[i] for i in indices]


def test_seeds_epochs_and_layers_draw_for_themselves_beyond_a_table_too() -> None:
    address = [{}, {"seed": 1}, {"epoch": 1}, {"layer": 1}, {"layer": COLUMNS}, {"layer": COLUMNS + 1}]
    assert len({tuple(kept(range(64), **options)) for options in address}) == len(address)


def test_the_share_that_is_dropped_is_the_rate_and_the_mean_stays() -> None:
    for rate in (0.1, 0.5, 0.8):
        assert sum(kept(range(2000), rate=rate)) / 2000 == pytest.approx(1 - rate, abs=0.04)
    batch = batch_of(range(500))
    with by_sample(batch, seed=0, epoch=0):
        assert DropPath(0.25).train()(torch.ones(500, 1)).mean().item() == pytest.approx(1.0, abs=0.1)


def test_numbers_are_float32_on_the_device_and_drawn_once_for_many_layers() -> None:
    draws = SampleDraws(torch.arange(5), CPU, ("x",))
    assert draws(0).dtype == torch.float32 and draws(0).shape == (5,) and draws(1).device == CPU
    assert len(draws.tables) == 1 and not torch.equal(draws(0), draws(1))


def test_without_a_batch_that_is_known_pytorch_draws_and_evaluation_drops_nothing() -> None:
    torch.manual_seed(3)
    first = DropPath(0.5).train()(torch.ones(64, 1))
    torch.manual_seed(3)
    assert torch.equal(first, DropPath(0.5).train()(torch.ones(64, 1))) and 0 < (first == 0).sum() < 64
    assert torch.equal(DropPath(0.5).eval()(first), first)


def masks_of_a_step(name: str, indices: Sequence[int]) -> dict[tuple[str, int], bool]:
    """Return {(layer, sample): kept} of one training step."""
    torch.manual_seed(0)
    model = create_model(name, drop_path_rate=0.6, backend="reference").train()
    found: dict[tuple[str, int], bool] = {}
    for layer, module in model.named_modules():
        if isinstance(module, DropPath) and module.drop_prob:

            def look(_: object, args: tuple, output: torch.Tensor, layer: str = layer) -> None:
                changed = (output != 0).flatten(1).any(1).tolist()
                found.update({(layer, index): kept for index, kept in zip(indices, changed, strict=True)})

            module.register_forward_hook(look)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    trainer = Trainer(model, optimizer, classification(), lambda step: 0.0, Precision(CPU), seed=4)
    trainer.step(batch_of(indices), epoch=2, index=0, lr=0.0)
    return found


@pytest.mark.parametrize("name", ["local_vim_nano", "local_vmamba_nano"])
def test_training_steps_on_parts_of_a_batch_drop_what_the_whole_one_drops(name: str) -> None:
    whole = masks_of_a_step(name, range(12))
    parts = masks_of_a_step(name, [11, 0, 3]) | masks_of_a_step(name, [1, 2, *range(4, 11)])
    assert whole == parts and len(whole) == 12 * len({layer for layer, _ in whole})
    assert len({tuple(whole[layer, i] for i in range(12)) for layer, _ in whole}) > 1, "layers differ"
