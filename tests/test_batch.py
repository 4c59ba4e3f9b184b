"""Batches: every source says which samples it gives, and a user's own pairs become batches in one place."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from idx_files import idx_source
from PIL import Image
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from lmsearch.data import Batch, PlainLoader, Source, build_loaders, build_source, search_loaders, spread
from lmsearch.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an image folder of two classes, six images each for training, one of them broken in either set."""
    root, draw = tmp_path_factory.mktemp("folder"), np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw.integers(0, 255, (9, 9), dtype=np.uint8)).save(root / split / name / f"{number}.png")
        (root / split / "a" / "1.png").write_bytes(b"no image")
    return root


def sources(folder: Path) -> list:
    """Return one source of every kind."""
    images = build_source("imagefolder", root=str(folder), img_size=8, in_chans=1, on_error="skip")
    return [
        build_source("digits"),
        idx_source(),
        build_source("planted", grid=4),
        build_source("planted", grid=4, num_train=40),
        dense(folder),
        images,
    ]


def dense(folder: Path) -> Source:
    """Return the images of one class with the same files as their masks."""
    for kind in ("images", "masks"):
        shutil.copytree(folder / "train" / "b", folder / "dense" / kind, dirs_exist_ok=True)
    return build_source("dense", root=str(folder / "dense"), img_size=8, in_chans=1)


def test_every_training_batch_of_every_source_tells_its_samples(folder: Path) -> None:
    for source in sources(folder):
        loader = build_loaders(source, batch_size=4, seed=3).train
        loader.set_epoch(2)
        given = torch.cat([batch.indices for batch in loader])
        assert given.dtype == torch.int64 and given.tolist() == loader.epoch_indices(2).tolist(), source.info.name


def test_balanced_batches_tell_their_samples(folder: Path) -> None:
    source = build_source("imagefolder", root=str(folder), img_size=8, in_chans=1, on_error="skip").balanced()
    loader = build_loaders(source, batch_size=4, seed=3).train
    given = torch.cat([batch.indices for batch in loader])
    assert sorted(given.tolist()) == sorted(loader.epoch_indices(0).tolist())


def test_evaluation_tells_the_samples_that_could_be_read(folder: Path) -> None:
    whole = build_loaders(build_source("digits"), batch_size=100, seed=0).test
    assert torch.cat([batch.indices for batch in whole]).tolist() == list(range(whole.num_samples))
    source = sources(folder)[-1]
    for batch in build_loaders(source, batch_size=4, seed=0).val:
        assert 1 not in batch.indices and torch.equal(batch.targets, torch.from_numpy(source.val.labels)[batch.indices])


def test_the_parts_of_a_search_are_numbered_in_the_whole_set() -> None:
    loaders = search_loaders(build_source("digits"), holdout=0.4, batch_size=64, seed=0)
    weights, held = (torch.cat([batch.indices for batch in part]) for part in (loaders.weights, loaders.holdout))
    assert not set(weights.tolist()) & set(held.tolist())
    few = spread(loaders.holdout, 9)
    assert few.indices.tolist() == held[np.linspace(0, len(held) - 1, 9).round().astype(int)].tolist()


def pairs(count: int = 10) -> TensorDataset:
    """Return samples whose inputs are their numbers."""
    return TensorDataset(torch.arange(float(count))[:, None], torch.arange(count) % 3)


def test_a_dataloader_becomes_batches_that_count_through_a_pass() -> None:
    loader = PlainLoader(DataLoader(pairs(), batch_size=4), what="train")
    got = list(loader)
    assert [type(batch) for batch in got] == [Batch] * 3 and len(loader) == 3 and loader.num_samples == 10
    assert torch.cat([batch.indices for batch in got]).tolist() == list(range(10))
    assert torch.cat([batch.inputs[:, 0] for batch in got]).tolist() == list(range(10))


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_a_dataloader_that_shuffles_does_so_by_seed_and_epoch_alone(own: bool, replacement: bool) -> None:
    generator = torch.Generator().manual_seed(7) if own else None
    before = generator.get_state() if generator is not None else None
    drawn = RandomSampler(pairs(), replacement=True, num_samples=40, generator=generator)  # in parts, during the pass
    ways = (DataLoader(pairs(), batch_size=4, shuffle=True, generator=generator), DataLoader(pairs(), 4, sampler=drawn))

    def order(epoch: int, *, seed: int = 0, disturb: int = 0) -> list[float]:
        torch.rand(disturb)
        loader = PlainLoader(ways[replacement], what="train", seed=seed)
        loader.set_epoch(epoch)
        return torch.cat([batch.inputs[:, 0] for batch in loader]).tolist()

    assert order(1) == order(1, disturb=5) and len({tuple(order(e, seed=s)) for e in range(2) for s in range(2)}) == 4
    assert generator is None or torch.equal(generator.get_state(), before)


def test_reading_a_users_batches_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    list(PlainLoader(DataLoader(pairs(), batch_size=4, shuffle=True, generator=torch.Generator()), what="train"))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_batches_without_a_sample_are_left_out() -> None:
    empty = (torch.zeros(0, 1), torch.zeros(0))
    loader = PlainLoader([empty, *DataLoader(pairs(), 4), empty], what="train")
    assert [batch.indices.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] and loader.num_samples == 10
    with pytest.raises(DataError, match="^train holds no sample$"):
        list(PlainLoader([empty], what="train"))


def test_a_users_loader_goes_on_inside_an_epoch() -> None:
    loader = PlainLoader(DataLoader(pairs(), batch_size=4, shuffle=True), what="train")
    loader.set_epoch(3)
    whole = list(loader)
    loader.set_epoch(3, start_batch=1)
    rest = list(loader)
    assert len(rest) == 2 and all(
        torch.equal(a, b) for one, other in zip(whole[1:], rest, strict=True) for a, b in zip(one[:3], other[:3], strict=True)
    )


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (iter([]), r"^holdout can be iterated only once; give a DataLoader"),
        ([torch.zeros(3)], r"^holdout: .* is no pair of tensors \(inputs, targets\)"),
        ([(torch.zeros(3), [0, 1, 2])], "is no pair of tensors"),
        ([(torch.zeros(3, 1), torch.zeros(2))], r"shapes \(3, 1\) and \(2,\) are not of equally many samples"),
    ],
)
def test_what_is_no_batches_is_one_clear_line(batches: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        list(PlainLoader(batches, what="holdout"))
    assert "\n" not in str(caught.value)


def test_a_stream_without_a_length_is_refused() -> None:
    class Stream:
        def __iter__(self):
            return iter([])

    with pytest.raises(DataError, match=r"^train: Stream tells no number of batches"):
        PlainLoader(Stream(), what="train")


def test_some_samples_of_a_pass_are_those_at_their_places_for_any_kind_of_loader() -> None:
    pairs = [(torch.arange(n).float().view(n, 1) + 10 * i, torch.arange(n) + 10 * i) for i, n in enumerate((4, 4, 3))]
    plain = PlainLoader(pairs, what="val")
    places = np.array([0, 3, 5, 8, 9, 10])
    some = plain.at(places)
    assert [len(batch.inputs) for batch in some] == [6] and len(some) == 1 and some.num_samples == 6
    whole = Batch.joined(plain)
    assert torch.equal(Batch.joined(some).targets, whole.targets[places])
    assert torch.equal(Batch.joined(some.at(np.array([1, 5]))).inputs, whole.inputs[places[[1, 5]]])
    held = search_loaders(build_source("digits"), holdout=0.5, batch_size=32, seed=0).val
    part = held.at(places)
    assert torch.equal(Batch.joined(part).inputs, Batch.joined(held).inputs[places]) and part.num_samples == 6
