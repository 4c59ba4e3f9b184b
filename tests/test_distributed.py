"""The world of processes: alone, everything is as it was; two processes together train as one. Nothing is started here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from lmsearch.config import compose_settings
from lmsearch.data import Batch, EvalLoader, TrainLoader, build_source, spread
from lmsearch.data.mixup import partners_of
from lmsearch.data.order import own_part
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.objectives import Scores, objective_for
from lmsearch.engine.progress import Phase, TrainingProgress
from lmsearch.engine.recipe import Recipe, build_trainer
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.seen import Seen
from lmsearch.engine.train import Precision, Trainer, evaluate, train_one_epoch
from lmsearch.errors import LmsearchError
from lmsearch.genotype import LayerChoice
from lmsearch.models import create_model
from lmsearch.models.backbone import Backbone
from lmsearch.search.supernet.network import arch_parameters
from lmsearch.settings.tasks import Search
from lmsearch.tasks.parts.board import example_predictions
from lmsearch.tasks.parts.build import build_data
from lmsearch.tasks.parts.candidates import search_data
from lmsearch.tasks.parts.conclude import About, conclude
from lmsearch.tasks.parts.search_setup import search_setup
from lmsearch.tasks.parts.watch import epoch_findings
from lmsearch.tasks.search import open_session

CPU = torch.device("cpu")
RECIPE = Recipe(
    epochs=1, batch_size=94, lr=1e-2, min_lr=0.0, warmup_lr=0.0, warmup_epochs=0, weight_decay=0.05, betas=(0.9, 0.999),
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


def test_tensors_of_any_kind_are_summed_in_one_message_each_and_divided_in_place() -> None:
    sent = []
    world = World(0, 4, exchange=lambda tensor: [tensor] * 4, add=lambda tensor: sent.append(tensor.dtype) or tensor.mul_(2))
    tensors = [torch.arange(6.0).view(2, 3).t(), torch.ones(2, dtype=torch.float64), torch.tensor(8.0)]
    before = [tensor.clone() for tensor in tensors]
    world.mean_(tensors)
    assert sent == [torch.float32, torch.float64]
    assert all(torch.equal(tensor, was / 2) for tensor, was in zip(tensors, before, strict=True))


@pytest.mark.parametrize("count", [1, 6, 7])
def test_gathered_samples_are_in_the_order_of_the_whole_set(count: int) -> None:
    whole = torch.arange(2 * count).view(count, 2)
    for found in Meeting(2).run(lambda world: world.gather(whole[world.rank :: world.size])):
        assert torch.equal(found, whole)


@pytest.mark.parametrize("count", [1, 6, 7])
def test_gathered_objects_are_in_the_order_of_the_whole_set(count: int) -> None:
    whole = tuple({"number": number, "name": "x" * number} for number in range(count))
    assert Meeting(2).run(lambda world: world.gather_each(whole[world.rank :: world.size])) == [whole] * 2
    assert SINGLE.gather_each(whole) is whole


@pytest.mark.parametrize("shares", [(1, 3), (3, 1), (0, 2), (2, 2, 0)])
def test_no_sample_is_lost_where_processes_hold_other_numbers_of_them(shares: tuple[int, ...]) -> None:
    held = [[10 * rank + turn for turn in range(share)] for rank, share in enumerate(shares)]
    whole = [mine[turn] for turn in range(max(shares)) for mine in held if turn < len(mine)]
    for found in Meeting(len(shares)).run(lambda world: world.gather(torch.tensor(held[world.rank], dtype=torch.int64))):
        assert found.tolist() == whole
    assert Meeting(len(shares)).run(lambda world: world.gather_each(tuple(held[world.rank]))) == [tuple(whole)] * len(shares)


def test_processes_that_differ_are_one_clear_line() -> None:
    same = Meeting(2).run(lambda world: world.assert_same("0f" * 32, what="the run"))
    assert same == [None, None]
    for error in Meeting(2).run(lambda world: world.assert_same(f"{world.rank:02x}" * 32, what="the run")):
        assert str(error) in ("the run of process 1 is not that of process 0", "the run of process 0 is not that of process 1")


@pytest.mark.parametrize(("rank", "size", "message"), [(2, 2, "expected 0 to 1"), (-1, 1, "rank is -1"), (0, 2, "exchange")])
def test_a_world_that_cannot_be_is_refused(rank: int, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        World(rank, size)


def fixed(model: Backbone) -> Backbone:
    """Fill a model with weights that are the same in every thread."""
    weights = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=weights) * 0.1)
    return model


def small() -> Backbone:
    """Return a small network for the digits."""
    return fixed(create_model("local_vim_nano", depth=1, embed_dim=8, drop_path_rate=0.5, patch_size=2, backend="reference"))


def trained(world: World) -> tuple[Trainer, Scores]:
    """Train an epoch with all that a recipe can have; return the trainer and the scores of the epoch."""
    source, model = build_source("digits"), small()
    loader = TrainLoader(source.train, batch_size=RECIPE.batch_size, seed=3, world=world)
    precision = Precision(CPU)
    trainer = build_trainer(RECIPE, model, model.named_parameters(), loader, source.info, precision, seed=3, world=world)
    with TrainingProgress("training", total_steps=len(loader), processes=world.size) as shown:
        seen = train_one_epoch(trainer, loader, epoch=0, on_step=shown.step)
    assert shown.images == len(loader) * RECIPE.batch_size, "of all processes"
    return trainer, seen


def test_two_processes_train_as_one_with_mixup_drop_path_clipping_and_averages() -> None:
    (one, seen), ((first, mine), (second, its)) = trained(SINGLE), Meeting(2).run(trained)
    for part in ("model", "ema"):
        whole = one.parts()[part].state_dict()
        for name, value in first.parts()[part].state_dict().items():
            assert torch.equal(value, second.parts()[part].state_dict()[name]), f"{name}: the processes agree"
            torch.testing.assert_close(value, whole[name], rtol=1e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert torch.equal(mine.losses, its.losses) and torch.equal(mine.scores, its.scores)
    assert torch.equal(mine.classes.bincount(), seen.classes.bincount()), "every sample of the epoch once"
    assert mine.loss == pytest.approx(seen.loss, rel=1e-4)


@pytest.mark.parametrize(("size", "processes"), [(8, 2), (8, 8), (24, 8), (9, 4), (7, 2), (11, 4), (3, 4), (1, 2)])
def test_mixup_has_the_same_partners_in_any_number_of_processes(size: int, processes: int) -> None:
    def mixed(world: World) -> bool:
        part = own_part(size, world)
        numbers = torch.from_numpy(part.places)
        batch = Batch(numbers[:, None].float(), numbers, numbers, places=numbers, weight=part.weight, of=part.of)
        images, targets = partners_of(batch, world) or (batch.inputs.flip(0), numbers.flip(0))
        wanted = size - 1 - numbers
        return part.weight == 0 or (torch.equal(targets, wanted) and torch.equal(images, wanted[:, None].float()))

    assert all(Meeting(processes).run(mixed))


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy"])
@pytest.mark.parametrize("count", [2, 31, 32])
def test_two_processes_evaluate_as_one(metric: str, count: int) -> None:
    source, objective = build_source("digits"), objective_for("class", metric=metric)

    def scored(world: World) -> Scores:
        loader = EvalLoader(source.val, batch_size=10, indices=np.arange(count), world=world)
        with Phase("evaluation", images=loader.num_samples) as shown:
            found = evaluate(small(), loader, objective, Precision(CPU))
        assert not world.main or shown.done == shown.total == count, "images of all processes"
        return found

    one = scored(SINGLE)
    for found in Meeting(2).run(scored):
        assert torch.equal(found.classes, one.classes) and torch.equal(found.sums, one.sums)
        assert torch.equal(found.scores, one.scores) and found.score == one.score
        torch.testing.assert_close(found.losses, one.losses)


def test_batches_of_no_loader_are_whole_in_every_process() -> None:
    source = build_source("digits")
    batch = spread(EvalLoader(source.val, batch_size=10), 8)
    assert Meeting(2).run(lambda world: len(evaluate(small(), [batch], objective_for("class"), Precision(CPU)).losses)) == [8, 8]


@pytest.mark.parametrize("number", [3, 8, 50])
def test_samples_spread_over_a_set_are_the_same_in_every_process(number: int) -> None:
    source = build_source("digits")

    def few(world: World) -> Batch:
        return spread(EvalLoader(source.val, batch_size=6, indices=np.arange(31), world=world), number)

    one = few(SINGLE)
    for found in Meeting(3).run(few):
        assert all(torch.equal(mine, its) for mine, its in zip(found[:3], one[:3], strict=True))


def test_few_picked_samples_are_shared_by_more_processes() -> None:
    source, objective, places = build_source("digits"), objective_for("class"), np.array([3, 7])

    def scored(world: World) -> tuple[Scores, Batch]:
        loader = EvalLoader(source.val, batch_size=6, indices=np.arange(12), world=world)
        return evaluate(small(), loader.at(places), objective, Precision(CPU)), spread(loader, 2)

    (one, batch) = scored(SINGLE)
    for found, picked in Meeting(3).run(scored):
        assert torch.equal(found.classes, one.classes) and torch.equal(found.scores, one.scores)
        assert torch.equal(picked.inputs, batch.inputs) and torch.equal(picked.indices, batch.indices)


def test_examples_are_drawn_by_one_process_and_are_those_of_the_whole_set() -> None:
    source, world = build_source("digits"), World(rank=0, size=2, exchange=lambda tensor: [tensor] * 2)

    def drawn(world: World) -> bytes:
        loader = EvalLoader(source.val, batch_size=6, indices=np.arange(7), world=world)
        return example_predictions(small(), source.info, loader, Precision(CPU)).tobytes()

    assert drawn(world) == drawn(SINGLE)


def test_fewer_samples_than_processes_are_refused_with_one_clear_line() -> None:
    for error in Meeting(3).run(
        lambda world: EvalLoader(build_source("digits").val, batch_size=3, indices=np.arange(2), world=world)
    ):
        assert str(error) == "evaluation set: 2 sample(s) cannot be shared by 3 processes; give it more samples"


def test_processes_that_derive_other_directions_write_no_genotype(tmp_path: Path) -> None:
    def derived(world: World) -> object:
        choice = LayerChoice(("h", "w2" if world.rank else "v"), "layers.0", {}, None)
        trained = SimpleNamespace(derive=lambda: ((choice,), {}), health=lambda *_, **__: pytest.fail("they differ"))
        return conclude(RunDir(tmp_path, world), trained, About("vim", "all", {}, tmp_path), None, (4, 4))

    told = {str(error) for error in Meeting(2).run(derived)}
    assert told == {f"the choice of directions of process {other} is not that of process {1 - other}" for other in (0, 1)}
    assert not list(tmp_path.iterdir())


class Spoilt(TrainLoader):
    """Batches of which one, in the second process alone, holds a sample that is no number."""

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(super().__iter__()):
            if number == 2 and self.world.rank == 1:
                batch.inputs[0] = torch.nan
            yield batch


def test_a_training_that_diverges_in_one_process_ends_in_all_with_the_same_line() -> None:
    plain = replace(RECIPE, mix_prob=0.0, ema_decay=None)

    def diverging(world: World) -> object:
        source, model, precision = build_source("digits"), small(), Precision(CPU)
        loader = Spoilt(source.train, batch_size=96, seed=3, world=world)
        trainer = build_trainer(plain, model, model.named_parameters(), loader, source.info, precision, seed=3, world=world)
        return train_one_epoch(trainer, loader, epoch=0, on_step=lambda *_: None)

    first, second = Meeting(2).run(diverging)
    assert str(first) == str(second) and str(first).startswith("the training loss became nan in step 3 of ")


def test_an_epoch_that_is_cut_remembers_the_samples_of_all_processes() -> None:
    def seen(world: World) -> tuple[list[float], list[float], list[int]]:
        mine = Seen(world=world)
        for step in (0, 1):
            losses = torch.arange(4.0)[world.rank :: world.size] + 10 * step
            mine.add(Scores(losses, losses), torch.arange(len(losses)))
        state, again = mine.state_dict(), Seen(world=world)
        again.load_state_dict(state)
        return state["losses"].tolist(), torch.cat([step.losses for step in again.steps]).tolist(), state["sizes"]

    (one, _, sizes), ((first, mine, whole), (second, its, _)) = seen(SINGLE), Meeting(2).run(seen)
    assert one == first == second and sizes == whole == [4, 4]
    assert (mine, its) == ([0.0, 2.0, 10.0, 12.0], [1.0, 3.0, 11.0, 13.0])


BILEVEL = ["search.architect=bilevel"]
UNEVEN = ["data.num_train=99", "search.holdout=0.34"]  # two steps, and held-out batches of 32 and 1
SEARCH = [
    "search=darts", "data=planted", "epochs=1", "data.steps_per_epoch=3", "batch_size=32", "keep=1", "model.embed_dim=8",
    "search.recheck=0", "search.health_every=1",
]  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [["search=darts", "batch_size=40"], BILEVEL, [*BILEVEL, *UNEVEN], [*BILEVEL, "search.order=2"], ["search=mixed"]],
    ids=" ".join,
)
def test_two_processes_search_as_one(words: list[str]) -> None:
    settings, building = compose_settings(Search, [*SEARCH, *words]), threading.Lock()

    def searched(world: World) -> tuple[Tensor, Scores, Scores, dict[str, float]]:
        with building:  # fresh weights are drawn from a state that threads share, as processes do not
            source, precision = build_data(settings.data), Precision(CPU)
            setup = search_setup(settings, source)
            loaders = search_data(settings, source, precision, world=world)
            session = open_session(settings, setup, loaders, source, precision, world=world)
        seen: list[Scores] = []
        session.train(on_epoch=lambda epoch, scores: seen.append(scores))
        alphas = torch.cat([alpha.detach() for alpha in arch_parameters(session.supernet)])
        held = session.scores_on(session.loaders.holdout)
        return alphas, seen[0], held, epoch_findings(session, epoch=0, every=1, held=held)

    (alphas, seen, held, found), (first, second) = searched(SINGLE), Meeting(2).run(searched)
    assert torch.equal(first[0], second[0]) and alphas.abs().min() > 0
    torch.testing.assert_close(first[0], alphas, rtol=2e-2, atol=1e-5)
    for mine, its, whole in zip(first[1:3], second[1:3], (seen, held), strict=True):
        assert torch.equal(mine.losses, its.losses) and len(mine.losses) == len(whole.losses)
        assert mine.loss == pytest.approx(whole.loss, rel=1e-3)
    assert torch.equal(first[2].sums[1], held.sums[1]), "as many samples"
    assert first[3] == second[3] and "health/cosine" in first[3] and "health/sharpness" in first[3]
    assert first[3] == pytest.approx(found, rel=2e-2, abs=2e-3)


class Double(TrainLoader):
    """Batches in double precision."""

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            yield batch._replace(inputs=batch.inputs.double())


@pytest.mark.slow
@pytest.mark.parametrize("words", [["search=darts"], BILEVEL, ["search=fair"]], ids=" ".join)
def test_in_double_precision_two_processes_search_as_one_to_nine_digits(words: list[str]) -> None:
    settings = compose_settings(
        Search, [*SEARCH, *words, "data.steps_per_epoch=50", "data.grid=4", "model.depth=2", "backend=reference"]
    )
    objective = replace(objective_for("dense"), losses=lambda out, t: (out - t.double().view_as(out)).square().flatten(1).mean(1))
    building = threading.Lock()

    def searched(world: World) -> dict[str, Tensor]:
        with building:
            source, precision = build_data(settings.data), Precision(CPU)
            loaders = search_data(settings, source, precision, world=world)
            session = open_session(settings, search_setup(settings, source), loaders, source, precision, world=world)
        session.supernet.double()
        session.trainer.objective = objective
        for loader in (session.loaders.weights, session.loaders.alphas):
            loader.__class__ = Double
        if hasattr(session.trainer.hook, "objective"):
            session.trainer.hook.objective = objective
        session.train()
        return session.supernet.state_dict()

    one, (first, second) = searched(SINGLE), Meeting(2).run(searched)
    worst = max((value - first[name]).abs().max().item() for name, value in one.items() if value.is_floating_point())
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert 0 < worst < 1e-9, "rounding only"
