"""Planted tasks: equally hard along every direction, beyond the reach of a short convolution, with controls without direction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmsearch.data import build_source
from lmsearch.data.sources.planted_designs import place
from lmsearch.data.sources.planted_tasks import TASKS
from lmsearch.scan.directions import index_table

EIGHT = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip")


def unplaced(images: torch.Tensor, direction: str) -> torch.Tensor:
    """Return (B, C, L) sequences in the order of the scan."""
    order = index_table((direction,), tuple(images.shape[-2:]))[0]
    return images.flatten(2)[:, :, torch.from_numpy(order.astype(np.int64))]


def planted(direction: str, **options):
    return build_source("planted", direction=direction, **{"val_size": 32, "test_size": 16} | options)


def drawn(source):
    """Return (images, targets) of training and evaluation together."""
    batches = [source.train.train_batch(np.arange(20), seed=3, epoch=2), source.val.eval_batch(np.arange(32))]
    return torch.cat([b.inputs for b in batches]), torch.cat([b.targets for b in batches])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("num_train", [None, 24])
def test_all_directions_carry_the_same_sequences_and_targets(task, num_train):
    options = {"task": task, "num_train": num_train, "noise": 0.3, "input_noise": 0.2}
    results = []
    for direction in EIGHT:
        images, targets = drawn(planted(direction, **options))
        results.append((unplaced(images, direction), unplaced(targets.transpose(1, 2).reshape(-1, 1, 8, 8), direction)))
    for sequences, targets in results[1:]:
        assert torch.equal(sequences, results[0][0]) and torch.equal(targets, results[0][1])


@pytest.mark.parametrize("task", ["decayed_sum", "latest_key", "random"])
def test_other_directions_give_other_images(task):
    distinct = {drawn(planted(d, task=task))[0].numpy().tobytes() for d in EIGHT}
    assert len(distinct) == len(EIGHT)


def test_place_puts_element_t_at_the_place_visited_at_time_t():
    assert place(np.arange(6), "v", (2, 3)).tolist() == [0, 2, 4, 1, 3, 5]


def explained(target: np.ndarray, inputs: np.ndarray) -> float:
    """Return R^2 of the least-squares fit of target (n,) by inputs (n, k)."""
    inputs = np.column_stack([inputs, np.ones(len(inputs))])
    residual = target - inputs @ np.linalg.lstsq(inputs, target, rcond=None)[0]
    return 1 - residual.var() / target.var()


def lagged(sequence: np.ndarray, lags: range, start: int) -> np.ndarray:
    """Return (B * (L - start), len(lags)) columns of sequence (B, L) delayed by each lag."""
    return np.column_stack([sequence[:, start - lag : sequence.shape[1] - lag].ravel() for lag in lags])


def test_decayed_sum_is_out_of_reach_of_four_taps_and_linear_in_the_older_tokens():
    source = planted("h", val_size=512)
    x, y = source.val.images.flatten(1).numpy(), source.val.targets[..., 0].numpy()
    target = y[:, 40:].ravel()
    assert explained(target, lagged(x, range(4), 40)) < 0.01
    assert explained(target, lagged(x, range(4, 40), 40)) > 0.99


def test_decayed_sum_obeys_its_recurrence():
    source = planted("h", decay=0.7, lag=5)
    x, y = source.val.images.flatten(1), source.val.targets[..., 0]
    steps = y[:, 5:] - 0.7 * y[:, 4:-1]
    ratio = steps / x[:, :-5]
    assert torch.equal(y[:, :5], torch.zeros(32, 5)) and torch.allclose(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-2)


def test_latest_key_target_is_the_value_after_the_latest_key():
    source = planted("h", task="latest_key", lag=2)
    values, keys = (part.numpy() for part in source.val.images.flatten(2).unbind(1))
    expected = np.zeros((32, 64))
    for b in range(32):
        for t in range(64):
            found = [s for s in range(t - 1) if keys[b, s] == 1]
            expected[b, t] = values[b, found[-1] + 1] if found else 0
    targets = source.val.targets[..., 0].numpy()
    ratio = targets[expected != 0] / expected[expected != 0]
    assert np.array_equal(targets == 0, expected == 0) and np.allclose(ratio, ratio[0]) and 1 < ratio[0] < 1.3


def test_token_mean_is_the_same_for_every_order_of_the_tokens():
    source = planted("v", task="token_mean")
    images, targets = source.val.images, source.val.targets
    assert torch.allclose(targets[:, :, 0], 8 * images.flatten(1).mean(1, keepdim=True).expand(-1, 64), atol=1e-5)


def test_random_targets_have_nothing_to_do_with_the_tokens():
    source = planted("h", task="random", val_size=2048)
    x, y = source.val.images.flatten(1).numpy(), source.val.targets[:, 20, 0].numpy()
    assert explained(y, x) < 3 * 64 / 2048


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("grid", [8, (14, 14), (4, 10)])
def test_targets_have_about_unit_variance(task, grid):
    source = planted("w2", task=task, grid=grid, val_size=1024)
    assert 0.9 < source.val.targets.var().item() < 1.1 and abs(source.val.targets.mean().item()) < 0.1


def test_training_noise_falls_on_targets_and_input_noise_on_the_values_only():
    clean, noisy = (planted("h", task="latest_key", noise=n, input_noise=i) for n, i in ((0, 0), (0.5, 0.25)))
    a, b = (s.train.train_batch(np.arange(500), seed=0, epoch=0) for s in (clean, noisy))
    assert (b.targets - a.targets).std().item() == pytest.approx(0.5, rel=0.05)
    assert (b.inputs - a.inputs)[:, 0].std().item() == pytest.approx(0.25, rel=0.05)
    assert torch.equal(a.inputs[:, 1], b.inputs[:, 1]) and torch.equal(clean.val.targets, noisy.val.targets)


def test_a_finite_training_set_is_the_same_in_every_epoch_and_apart_from_val():
    source = planted("h", num_train=40)
    batches = [source.train.train_batch(np.arange(40), seed=s, epoch=s) for s in (0, 1)]
    assert torch.equal(batches[0].inputs, batches[1].inputs) and source.train.epoch_size(7) == 40
    assert not torch.equal(batches[0].inputs[:32], source.val.images)
