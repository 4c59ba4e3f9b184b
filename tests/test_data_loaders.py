"""Loaders: the same batches for any rank layout, resume point or order of epochs, and disjoint parts for a search."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from idx_files import idx_source

from lmsearch.data import Batch, TrainLoader, build_loaders, build_source, search_loaders
from lmsearch.data.affine import BatchAugment, shift_images, turn_images
from lmsearch.data.arrays import ArrayDataset
from lmsearch.data.keyed import hashed_normals, hashed_uniforms
from lmsearch.data.order import own_part
from lmsearch.errors import DataError

PLANTED = {"val_size": 32, "test_size": 32, "grid": 4, "steps_per_epoch": 3}
SMALL_SOURCES = {
    "digits": lambda: build_source("digits"),
    "idx": idx_source,
    "planted fresh": lambda: build_source("planted", **PLANTED),
    "planted finite": lambda: build_source("planted", num_train=100, noise=0.1, **PLANTED),
}


@pytest.fixture(scope="module", params=list(SMALL_SOURCES))
def source(request):
    return SMALL_SOURCES[request.param]()


class Rank(NamedTuple):
    """One of several processes, as loaders see it."""

    rank: int
    size: int


def equal(first, second) -> bool:
    if len(first) != len(second):
        return False
    return all(torch.equal(x[0], y[0]) and torch.equal(x[1], y[1]) for x, y in zip(first, second, strict=True))


def epoch_of(loader, epoch, **start):
    loader.set_epoch(epoch, **start)
    return list(loader)


def test_epoch_three_alone_equals_epoch_three_after_the_others(source):
    one, other = (build_loaders(source, batch_size=16, seed=5).train for _ in range(2))
    for epoch in range(3):
        epoch_of(one, epoch)
    assert equal(epoch_of(one, 3), epoch_of(other, 3))


def test_epochs_and_seeds_differ(source):
    train = build_loaders(source, batch_size=16, seed=0).train
    first = epoch_of(train, 0)
    assert not equal(first, epoch_of(train, 1))
    assert not equal(first, epoch_of(build_loaders(source, batch_size=16, seed=1).train, 0))
    assert equal(first, epoch_of(train, 0))


def test_resuming_inside_an_epoch_gives_the_rest_of_it(source):
    train = build_loaders(source, batch_size=16, seed=0).train
    assert equal(epoch_of(train, 2)[2:], epoch_of(train, 2, start_batch=2))


def test_length_and_shapes_are_as_announced(source):
    train = build_loaders(source, batch_size=16, seed=0).train
    batches = list(train)
    info = source.info
    assert len(batches) == len(train) == train.num_samples // 16
    for images, targets, *_ in batches:
        assert images.shape == (16, info.in_chans, *info.img_size) and images.dtype == torch.float32
        expected = (
            ((16,), torch.int64) if info.target == "class" else ((16, info.img_size[0] * info.img_size[1], 1), torch.float32)
        )
        assert (tuple(targets.shape), targets.dtype) == expected


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_together_give_the_batches_of_one_process(source, size):
    single = epoch_of(build_loaders(source, batch_size=16, seed=0).train, 1)
    ranks = [epoch_of(build_loaders(source, batch_size=16, seed=0, world=Rank(r, size)).train, 1) for r in range(size)]
    for step, whole in enumerate(single):
        parts = [rank[step] for rank in ranks]
        assert {len(part.inputs) for part in parts} == {16 // size}
        joined = Batch.joined(parts)
        back = joined.take(torch.tensor([joined.indices.tolist().index(i) for i in whole.indices.tolist()]))
        assert torch.equal(back.inputs, whole.inputs) and torch.equal(back.targets, whole.targets)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_what_mixup_mixes_is_in_one_process_at_mirrored_places(size):
    whole = epoch_of(build_loaders(build_source("digits"), batch_size=16, seed=0).train, 1)[3].indices
    for rank in range(size):
        loader = build_loaders(build_source("digits"), batch_size=16, seed=0, world=Rank(rank, size)).train
        own = epoch_of(loader, 1)[3].indices
        partners = {int(i): int(whole[15 - place]) for place, i in enumerate(whole)}
        assert [partners[int(i)] for i in own] == own.flip(0).tolist()


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(DataError, match="batch_size=10 cannot be shared by 4 processes; batch_size=8 or 12 can"):
        build_loaders(build_source("digits"), batch_size=10, seed=0, world=Rank(0, 4))


def test_ranks_share_the_evaluation_without_padding(source):
    full = torch.cat([batch.targets for batch in build_loaders(source, batch_size=16, seed=0).val])
    parts = [
        torch.cat([batch.targets for batch in build_loaders(source, batch_size=15, seed=0, world=Rank(r, 3)).val])
        for r in range(3)
    ]
    assert sum(len(p) for p in parts) == len(full)
    assert all(torch.equal(full[r::3], part) for r, part in enumerate(parts))


def test_without_drop_last_every_sample_counts_once_however_ranks_share_the_last_batch():
    digits = build_source("digits")
    whole = list(build_loaders(digits, batch_size=200, seed=0, drop_last=False).train)
    ranks = [list(build_loaders(digits, batch_size=200, seed=0, world=Rank(r, 4), drop_last=False).train) for r in range(4)]
    assert [len(batch.inputs) for batch in whole] == [200] * 5 + [79] and {len(rank) for rank in ranks} == {6}
    assert [len(rank[-1].inputs) for rank in ranks] == [20, 20, 20, 19]
    for step, batch in enumerate(whole):
        parts = [rank[step] for rank in ranks]
        for part in parts:
            assert torch.equal(part.indices, batch.indices[part.places])
        assert sorted(torch.cat([part.places for part in parts]).tolist()) == list(range(len(batch.inputs)))
        mean = sum(part.inputs.double().mean(0) * part.weight for part in parts) / 4
        assert torch.allclose(mean, batch.inputs.double().mean(0))


@pytest.mark.parametrize(("size", "ranks"), [(1, 3), (2, 4), (5, 4), (7, 2), (8, 8)])
def test_parts_of_a_batch_are_all_of_it_and_one_for_nothing_where_there_are_too_few(size, ranks):
    parts = [own_part(size, Rank(rank, ranks)) for rank in range(ranks)]
    held = np.concatenate([part.places for part in parts if part.weight > 0])
    assert sorted(held) == list(range(size)) and {len(part.places) for part in parts if part.weight == 0} <= {1}
    assert sum(part.weight for part in parts) == pytest.approx(ranks)
    assert own_part(size, Rank(0, 1)).weight == 1.0


def test_balanced_ranks_hold_what_mixup_mixes_at_mirrored_places():
    data = ArrayDataset(torch.rand(32, 1, 2, 2), torch.tensor([0] * 27 + [1] * 5), (0.0,), (1.0,), BatchAugment(shift=1))

    def batches(world):
        return list(TrainLoader(data, batch_size=16, seed=0, sampler="balanced", world=world))

    whole, ranks = batches(Rank(0, 1)), [batches(Rank(rank, 2)) for rank in range(2)]
    for step, batch in enumerate(whole):
        for part in (rank[step] for rank in ranks):
            assert torch.equal(part.inputs, batch.inputs[part.places])
            assert torch.equal(part.places.flip(0), 15 - part.places)


def test_global_random_state_is_left_alone(source):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for loader in search_loaders(source, holdout=0.5, batch_size=16, seed=0):
        list(loader)
    assert torch.equal(state, torch.get_rng_state()) and np.array_equal(numpy_state, np.random.get_state()[1])


def test_search_parts_are_disjoint_and_the_holdout_is_the_alphas_part():
    digits = build_source("digits")
    loaders = search_loaders(digits, holdout=0.3, batch_size=1, seed=4)
    weights, alphas = (set(part.epoch_indices(0).tolist()) for part in loaders[:2])
    assert not weights & alphas and weights | alphas == set(range(1079)) and len(alphas) == 323
    held = torch.cat([batch.targets for batch in loaders.holdout])
    assert torch.equal(held.bincount(), digits.train.targets[sorted(alphas)].bincount())


def test_search_split_is_keyed_by_the_seed():
    digits = build_source("digits")
    parts = [set(search_loaders(digits, holdout=0.5, batch_size=1, seed=s).alphas.epoch_indices(0).tolist()) for s in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]


def test_fresh_streams_of_weights_alphas_and_holdout_have_no_sample_in_common():
    loaders = search_loaders(build_source("planted", **PLANTED), holdout=0.5, batch_size=32, seed=0)
    images = [torch.cat([batch.inputs for batch in loader]).flatten(1) for loader in loaders]
    images.append(torch.cat([batch.inputs for batch in epoch_of(loaders.weights, 1)]).flatten(1))
    rows = torch.cat(images)
    assert len(rows.unique(dim=0)) == len(rows)


@pytest.mark.parametrize("holdout", [0, 1, -0.5, "half", float("nan")])
def test_a_holdout_outside_zero_to_one_is_refused(holdout):
    with pytest.raises(DataError, match="holdout is"):
        search_loaders(build_source("digits"), holdout=holdout, batch_size=8, seed=0)


def test_a_holdout_that_leaves_a_part_empty_is_refused():
    with pytest.raises(DataError, match="holdout is 0.001: 100 training samples make 100 for weights and 0 for alphas"):
        search_loaders(SMALL_SOURCES["planted finite"](), holdout=0.001, batch_size=8, seed=0)


def test_a_batch_larger_than_the_training_set_is_refused():
    with pytest.raises(DataError, match="digits training set: 1079 .* no full batch of 1080 .* lower batch_size to at most 1079"):
        build_loaders(build_source("digits"), batch_size=1080, seed=0)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"seed": -1}, {"num_workers": -1}, {"seed": "abc"}])
def test_loader_options_are_checked(options):
    with pytest.raises(DataError, match=f"{next(iter(options))} is"):
        build_loaders(build_source("digits"), **{"batch_size": 8, "seed": 0} | options)


def test_augmentation_belongs_to_the_sample_not_to_its_batch():
    images, augment = torch.rand(40, 1, 8, 8), BatchAugment(shift=2, rotate_degrees=20, scale=0.2)
    whole = augment(images, np.arange(40), num_samples=40, seed=1, epoch=2)
    some = np.array([31, 3, 17])
    assert torch.equal(augment(images[some], some, num_samples=40, seed=1, epoch=2), whole[some])
    assert not torch.equal(augment(images, np.arange(40), num_samples=40, seed=1, epoch=3), whole)


def test_shift_moves_whole_pixels_and_fills_with_zeros():
    image = torch.arange(1.0, 10).reshape(1, 1, 3, 3).repeat(2, 1, 1, 1)
    moved = shift_images(image, torch.tensor([1, 0]), torch.tensor([-1, 0]))
    assert moved[0, 0].tolist() == [[0, 0, 0], [2, 3, 0], [5, 6, 0]]
    assert torch.equal(moved[1], image[1])


def test_all_shifts_are_drawn_equally_often():
    images = torch.zeros(6000, 1, 5, 5)
    images[:, :, 2, 2] = 1
    moved = BatchAugment(shift=1, rotate_degrees=0, scale=0)(images, np.arange(6000), num_samples=6000, seed=0, epoch=0)
    shares = moved.mean((0, 1))
    assert torch.allclose(shares[1:4, 1:4], torch.full((3, 3), 1 / 9), atol=0.02) and shares.sum().item() == pytest.approx(1)


def test_a_quarter_turn_is_a_rotation_also_of_an_oblong_image():
    image = torch.rand(1, 2, 6, 6)
    turned = turn_images(image, torch.tensor([np.pi / 2], dtype=torch.float32), torch.ones(1))
    assert any(torch.allclose(turned, image.rot90(k, (2, 3)), atol=1e-5) for k in (1, 3))
    oblong = torch.zeros(1, 1, 5, 9)
    oblong[0, 0, 2, 6] = 1  # two columns right of the centre
    turned = turn_images(oblong, torch.tensor([np.pi / 2], dtype=torch.float32), torch.ones(1))
    assert max(turned[0, 0, 0, 4].item(), turned[0, 0, 4, 4].item()) == pytest.approx(1, abs=1e-5)


def test_zoom_enlarges():
    image = torch.zeros(1, 1, 9, 9)
    image[..., 3:6, 3:6] = 1
    larger = turn_images(image, torch.zeros(1), torch.tensor([2.0]))
    assert larger.sum() == pytest.approx(4 * image.sum().item(), rel=0.1)


def test_hashed_numbers_belong_to_the_index_and_look_random():
    normals = hashed_normals(np.arange(20_000), 3, "a", 0)
    assert np.array_equal(normals[[7, 123]], hashed_normals(np.array([7, 123]), 3, "a", 0))
    assert np.abs(normals.mean(0)).max() < 0.03 and np.abs(np.cov(normals.T) - np.eye(3)).max() < 0.04
    flat = hashed_uniforms(np.arange(20_000), 2, "b")
    assert np.abs(np.histogram2d(*flat.T, bins=5, range=[(0, 1), (0, 1)])[0] / 800 - 1).max() < 0.15
    assert not np.array_equal(normals, hashed_normals(np.arange(20_000), 3, "a", 1))
