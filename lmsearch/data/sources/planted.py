"""Planted tasks: the scan direction that solves them is known, so a search can be marked right or wrong.

A causal task on a sequence of L tokens is laid on the grid along `direction`. The sequences and their targets do not
depend on the direction, so the tasks of any two directions are exactly equally hard. Shapes: sequences (B, C, L), targets of
a sequence (B, L); images (B, C, H, W) and dense targets (B, L, 1) in raster order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from lmsearch.data.arrays import ArrayDataset
from lmsearch.data.checks import choice, number, size2d, whole
from lmsearch.data.info import Batch, DataInfo, Source
from lmsearch.data.keyed import hashed_normals, hashed_uniforms
from lmsearch.errors import DataError
from lmsearch.scan_orders import index_table, parse_direction

Address = tuple[int | str, ...]
DEFAULT_LAG = {"decayed_sum": 4}  # one more than the convolution reaches back


@dataclass(frozen=True)
class Task:
    """A planted task before it is laid on the grid.

    `decay` and `lag` shape the decayed sum: y_t = scale * sum over j >= lag of decay^(j - lag) x_(t-j), of unit variance.
    `key_rate` is the probability that a token is a key; y_t is the value one after the latest key, of those `lag` or more
    tokens back.
    """

    name: str
    length: int
    decay: float
    lag: int
    key_rate: float

    @property
    def in_chans(self) -> int:
        """Channels of a token: its value and, where there are keys, 1 for a key and 0 otherwise."""
        return 2 if self.name == "latest_key" else 1

    def draw(self, indices: np.ndarray, address: Address) -> tuple[np.ndarray, np.ndarray]:
        """Return sequences (B, C, L) and targets (B, L), float32; sample b depends on (address, indices[b]) only."""
        values = hashed_normals(indices, self.length, "values", *address)
        return TASKS[self.name](self, values, indices, address)


def decayed_sum(task: Task, values: np.ndarray, indices: np.ndarray, address: Address) -> tuple[np.ndarray, np.ndarray]:
    """A decayed sum of the tokens `lag` or more before."""
    sums = np.zeros(values.shape, dtype=np.float64)
    for t in range(task.lag, task.length):  # not a matrix product: that may round differently in another batch
        sums[:, t] = task.decay * sums[:, t - 1] + values[:, t - task.lag]
    variances = np.cumsum(task.decay ** (2.0 * np.arange(task.length - task.lag)))  # of the tokens from `lag` on
    return values[:, None], (sums / np.sqrt(variances.sum() / task.length)).astype(np.float32)


def latest_key(task: Task, values: np.ndarray, indices: np.ndarray, address: Address) -> tuple[np.ndarray, np.ndarray]:
    """The value one after the latest key that is `lag` or more tokens back, 0 before the first; scaled to unit variance."""
    keys = hashed_uniforms(indices, task.length, "keys", *address) < task.key_rate  # (B, L)
    latest = np.maximum.accumulate(np.where(keys, np.arange(task.length), -1), axis=1)
    latest = np.concatenate([np.full((len(keys), task.lag), -1), latest[:, : -task.lag]], axis=1)
    recalled = np.take_along_axis(values, latest + 1, axis=1)
    known = 1 - (1 - task.key_rate) ** np.arange(1, task.length - task.lag + 1)  # chance of a key, for the tokens from `lag` on
    targets = np.where(latest >= 0, recalled, 0) / np.sqrt(known.sum() / task.length)
    return np.stack([values, keys.astype(np.float32)], axis=1), targets.astype(np.float32)


def token_mean(task: Task, values: np.ndarray, indices: np.ndarray, address: Address) -> tuple[np.ndarray, np.ndarray]:
    """The mean of all tokens, scaled to unit variance, at every token: no order is better than another."""
    means = values.sum(1, keepdims=True) / np.float32(np.sqrt(task.length))
    return values[:, None], means.repeat(task.length, axis=1)


def random_targets(task: Task, values: np.ndarray, indices: np.ndarray, address: Address) -> tuple[np.ndarray, np.ndarray]:
    """Numbers that have nothing to do with the tokens."""
    return values[:, None], hashed_normals(indices, task.length, "targets", *address)


TASKS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "decayed_sum": decayed_sum,
    "latest_key": latest_key,
    "token_mean": token_mean,
    "random": random_targets,
}


def place(sequences: np.ndarray, direction: str, grid: tuple[int, int]) -> np.ndarray:
    """Lay sequences (..., L) on the grid along `direction`: (..., L) in raster order."""
    order = index_table((parse_direction(direction).name,), grid)[0]
    placed = np.empty_like(sequences)
    placed[..., order] = sequences
    return placed


@dataclass(frozen=True)
class Planted:
    """A task on a grid; `input_noise` and `noise` are the standard deviations of noise on images and on training targets."""

    task: Task
    direction: str
    grid: tuple[int, int]
    noise: float
    input_noise: float

    def sample(self, indices: np.ndarray, *address: int | str, noisy: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, C, H, W) and targets (B, L, 1); `noisy` adds the noise of training targets."""
        sequences, targets = self.task.draw(indices, address)
        if self.input_noise:
            noise = hashed_normals(indices, self.task.length, "input_noise", *address)
            sequences[:, 0] += np.float32(self.input_noise) * noise
        if noisy and self.noise:
            targets = targets + np.float32(self.noise) * hashed_normals(indices, self.task.length, "noise", *address)
        images = place(sequences, self.direction, self.grid).reshape(*sequences.shape[:2], *self.grid)
        return torch.from_numpy(images), torch.from_numpy(place(targets, self.direction, self.grid))[..., None]

    def fixed(self, name: str, size: int, *, noisy: bool = False) -> ArrayDataset:
        """Return the `size` samples of the set `name`: the same in every run, whatever its seed."""
        images, targets = self.sample(np.arange(size), "planted", name, noisy=noisy)
        chans = self.task.in_chans
        return ArrayDataset(images, targets, (0.0,) * chans, (1.0,) * chans)


@dataclass(frozen=True)
class FreshSamples:
    """Fresh samples in every epoch, by the address (stream, seed, epoch, index): `steps_per_epoch` batches of them."""

    planted: Planted
    steps_per_epoch: int
    held_out_size: int
    name: str = "train"
    labels: None = None
    in_memory: bool = True

    def stream(self, name: str) -> FreshSamples:
        """Return a stream of other samples."""
        return replace(self, name=name)

    def held_out(self) -> ArrayDataset:
        """Return fixed samples that no stream gives."""
        return self.planted.fixed("held_out", self.held_out_size)

    def epoch_size(self, global_batch: int) -> int:
        """Return the samples of `steps_per_epoch` batches over all ranks."""
        return self.steps_per_epoch * global_batch

    def train_batch(self, indices: np.ndarray, *, seed: int, epoch: int) -> Batch:
        """Return the samples `indices` (B,) of the epoch, with noise on the targets."""
        return Batch(*self.planted.sample(indices, "planted", self.name, seed, epoch, noisy=True))

    def eval_batch(self, indices: np.ndarray) -> Batch:
        """Return samples that belong to no epoch, without noise on the targets."""
        return Batch(*self.planted.sample(indices, "planted", self.name, "eval", noisy=False))


def build_planted(
    *,
    direction: str = "h",
    task: str = "decayed_sum",
    grid: int | tuple[int, int] = 8,
    num_train: int | None = None,
    noise: float = 0.0,
    input_noise: float = 0.0,
    steps_per_epoch: int = 30,
    val_size: int = 512,
    test_size: int = 1024,
    decay: float = 0.9,
    lag: int | None = None,
    key_rate: float = 0.1,
) -> Source:
    """Return the planted task. `num_train` None: fresh data in every step of an epoch of `steps_per_epoch` steps.

    A finite training set and the val and test sets are the same for every seed. Val and test targets carry no noise.
    `lag` None is 4 for the decayed sum and 1 for keys; it is at least 1 and less than the number of tokens.
    """
    grid = size2d("grid", grid)
    length = grid[0] * grid[1]
    name = choice("task", task, tuple(TASKS))
    lag = DEFAULT_LAG.get(name, 1) if lag is None else whole("lag", lag, least=1)
    if lag >= length:
        raise DataError(f"grid is {list(grid)}: its {length} tokens are no more than the lag of {lag}; take a larger grid")
    spec = Task(
        name,
        length,
        decay=number("decay", decay, least=0.0, most=1.0),
        lag=lag,
        key_rate=number("key_rate", key_rate, least=1e-6, most=1.0),
    )
    planted = Planted(
        spec, parse_direction(direction).name, grid, number("noise", noise, least=0), number("input_noise", input_noise, least=0)
    )
    val_size = whole("val_size", val_size, least=1)
    if num_train is None:
        train = FreshSamples(planted, whole("steps_per_epoch", steps_per_epoch, least=1), held_out_size=val_size)
    else:
        train = planted.fixed("train", whole("num_train", num_train, least=1), noisy=True)
    none, one = (0.0,) * spec.in_chans, (1.0,) * spec.in_chans
    info = DataInfo("planted", 1, ("target",), grid, spec.in_chans, none, one, target="dense", crop_pct=1.0)
    return Source(info, train, planted.fixed("val", val_size), planted.fixed("test", whole("test_size", test_size, least=1)))
