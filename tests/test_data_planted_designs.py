"""Planted sets, chains, teachers and private parts, each against a reference that is written as loops over the images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmsearch.data import build_source
from lmsearch.errors import DataError
from lmsearch.scan.directions import index_table

SMALL = {"val_size": 24, "test_size": 8}


def planted(**options):
    return build_source("planted", **SMALL | options)


def along(raster: np.ndarray, direction: str) -> np.ndarray:
    """Return (B, L) values in the order of the scan."""
    return raster[:, index_table((direction,), (8, 8))[0]]


def naive_sums(sequence: np.ndarray, *, lag: int = 4, decay: float = 0.9) -> np.ndarray:
    """Sum over j >= lag of decay^(j - lag) times the token j steps before."""
    sums = np.zeros(sequence.shape)
    for t in range(sequence.shape[1]):
        for s in range(t - lag + 1):
            sums[:, t] += decay ** (t - lag - s) * sequence[:, s]
    return sums


def proportional(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether a = c * b with one c > 0."""
    c = (a * b).sum() / (b * b).sum()
    return c > 0 and np.allclose(a, c * b, atol=1e-4)


def test_the_output_of_a_group_follows_from_its_own_channel_along_its_own_direction():
    chosen = ["h", "v_flip", "w2", "w4_flip"]
    val = planted(directions=chosen).val
    for group, direction in enumerate(chosen):
        image, target = val.images[:, group].flatten(1).numpy(), val.targets[..., group].numpy()
        assert proportional(along(target, direction), naive_sums(along(image, direction)))


def test_groups_are_independent_and_the_first_is_the_plain_task():
    val, plain = (planted(directions=d, val_size=2000).val for d in (["w2", "w2"], ["w2"]))
    assert torch.equal(val.images[:, :1], plain.images) and torch.equal(val.targets[..., :1], plain.targets)
    assert abs(np.corrcoef(val.images[:, 0].flatten(), val.images[:, 1].flatten())[0, 1]) < 0.02


def test_groups_of_keyed_tasks_have_keys_of_their_own():
    source = planted(task="latest_key", directions=["h", "v"])
    keys = source.val.images[:, 1::2].flatten(2)
    assert source.info.in_chans == 4 and source.info.num_classes == 2
    assert set(keys.unique().tolist()) == {0.0, 1.0} and not torch.equal(keys[:, 0], keys[:, 1])


@pytest.mark.parametrize("pair", [("h", "v"), ("w2_flip", "h")])
def test_a_chain_recalls_along_its_second_direction_what_was_summed_along_its_first(pair):
    first, second = pair
    val = planted(task="chained", directions=list(pair)).val
    value, key = (c.flatten(1).numpy() for c in val.images.unbind(1))
    sums = np.zeros((24, 64))
    sums[:, index_table((first,), (8, 8))[0]] = naive_sums(along(value, first))
    sums, key = along(sums, second), along(key, second)
    expected = np.zeros((24, 64))
    for b in range(24):
        for t in range(64):
            latest = max((s for s in range(t) if key[b, s] == 1), default=None)
            expected[b, t] = 0 if latest is None else sums[b, latest + 1]
    assert proportional(along(val.targets[..., 0].numpy(), second), expected)


def test_the_order_of_a_chain_matters():
    x, y = (planted(task="chained", directions=d, val_size=400).val for d in (["h", "v"], ["v", "h"]))
    turned = y.images.transpose(2, 3), y.targets.unflatten(1, (8, 8)).transpose(1, 2).flatten(1, 2)
    assert torch.equal(turned[0], x.images) and torch.equal(turned[1], x.targets)  # the grid is square: equally hard
    assert not torch.equal(y.targets, x.targets)


TEACHER = {"task": "teacher", "directions": [["h", "v"], ["w2_flip"]]}


def test_targets_of_a_teacher_are_standardised_and_do_not_depend_on_the_batch():
    source = planted(**TEACHER | {"val_size": 64})
    assert source.val.targets.shape == (64, 64, 2)
    assert source.val.targets.mean().abs() < 0.2 and source.val.targets.std().item() == pytest.approx(1, abs=0.1)
    whole, part = (source.train.train_batch(np.arange(*span), seed=1, epoch=2) for span in ((0, 12), (5, 8)))
    assert torch.equal(whole.targets[5:8], part.targets)


def test_a_teacher_depends_on_its_directions_and_on_set_seed_alone():
    state = torch.random.get_rng_state()
    one, turned, other = (
        planted(**TEACHER | more).val for more in ({}, {"directions": [["h", "v_flip"], ["w2_flip"]]}, {"set_seed": 1})
    )
    assert torch.equal(torch.random.get_rng_state(), state) and torch.equal(one.images, turned.images)
    apart = (one.targets - turned.targets).square().mean().item()
    assert apart > 0.2, "the outputs hardly depend on a direction"
    assert not torch.equal(one.images, other.images) and not torch.equal(one.targets, other.targets)


MEMORISE = {"direction": "h", "memorise": "v_flip", "memorise_strength": 1.5, "code_chans": 12, "num_train": 400}


def test_the_private_part_is_the_sum_of_markers_along_its_direction_times_a_sign_of_the_sample():
    train, rule = planted(**MEMORISE).train, planted(direction="h", num_train=400).train
    private = (train.targets * np.sqrt(1 + 1.5**2) - rule.targets)[..., 0].numpy() / 1.5
    markers = train.images[:, 1].abs().flatten(1).numpy()
    echo = naive_sums(along(markers, "v_flip"))
    assert proportional(np.abs(along(private, "v_flip")), echo)
    assert 0.9 < np.square(private).mean() < 1.1
    sounding = np.abs(private) > 1e-3
    signs = {tuple(np.unique(np.sign(row[there]))) for row, there in zip(private, sounding, strict=True)}
    assert signs <= {(), (1.0,), (-1.0,)} and {(1.0,), (-1.0,)} <= signs


def test_every_marker_of_a_sample_shows_its_code_and_no_code_tells_its_sign():
    train, rule = planted(**MEMORISE).train, planted(direction="h", num_train=400).train
    codes = train.images[:, 1:].flatten(2)  # (N, code_chans, L)
    shown = codes.abs().amax(1)
    assert set(shown.unique().tolist()) == {0.0, 1.0} and torch.equal(codes.abs(), shown[:, None].expand_as(codes))
    mine = codes.sum(2).sign()
    assert all(torch.equal(codes[n], mine[n, :, None] * shown[n]) for n in range(400))
    secret = (train.targets * np.sqrt(1 + 1.5**2) - rule.targets)[..., 0].sum(1).sign()
    assert (mine * secret[:, None]).mean(0).abs().max() < 4 / np.sqrt(400)


def test_val_and_test_targets_hold_the_rule_alone():
    source, rule = planted(**MEMORISE), planted(direction="h")
    for part, plain in ((source.val, rule.val), (source.test, rule.test)):
        assert torch.allclose(part.targets * np.sqrt(1 + 1.5**2), plain.targets, atol=1e-6)
        assert torch.equal(part.images[:, :1], plain.images)


@pytest.mark.parametrize("options", [{}, {"task": "chained", "directions": ["h", "v"]}, MEMORISE | {"num_train": None}])
def test_set_seed_draws_other_fixed_samples(options):
    one, other = (planted(**options, set_seed=s) for s in (0, 1))
    assert not torch.equal(one.val.images, other.val.images)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"directions": []}, "one or more scan directions"),
        ({"directions": "h"}, "one or more scan directions"),
        ({"task": "chained"}, "a list of 2 scan directions"),
        ({"task": "chained", "directions": ["h", "v", "w2"]}, "a list of 2 scan directions"),
        ({"task": "teacher", "directions": ["h", "v"]}, "one list per layer"),
        ({"task": "teacher", "directions": [["h"], []]}, "one or more scan directions"),
        ({"task": "chained", "directions": ["h", "v"], "memorise": "v"}, "no part to learn by heart"),
        ({"memorise": "v", "code_chans": 0}, "code_chans is 0"),
        ({"memorise": "v", "memorise_strength": -1}, "memorise_strength is -1"),
        ({"set_seed": -1}, "set_seed is -1"),
    ],
)
def test_mistakes_are_named(options, words):
    with pytest.raises(DataError, match=words):
        planted(**options)
