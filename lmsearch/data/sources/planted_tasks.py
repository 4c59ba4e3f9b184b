"""Planted tasks as sequences, before anything is laid on a grid: what a token's target depends on along one scan order.

Shapes: sequences (B, C, L); targets of a sequence (B, L); both in the order of the scan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lmsearch.data.keyed import hashed_normals, hashed_uniforms

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
    sums = delayed_sums(values, decay=task.decay, lag=task.lag)
    variances = np.cumsum(task.decay ** (2.0 * np.arange(task.length - task.lag)))  # of the tokens from `lag` on
    return values[:, None], (sums / np.sqrt(variances.sum() / task.length)).astype(np.float32)


def delayed_sums(values: np.ndarray, *, decay: float, lag: int) -> np.ndarray:
    """Return s (B, L), float64: s_t = decay * s_(t-1) + values_(t-lag), 0 before token `lag`."""
    sums = np.zeros(values.shape, dtype=np.float64)
    for t in range(lag, values.shape[1]):  # not a matrix product: that may round differently in another batch
        sums[:, t] = decay * sums[:, t - 1] + values[:, t - lag]
    return sums


def draw_keys(task: Task, indices: np.ndarray, address: Address) -> np.ndarray:
    """Return which tokens are keys, (B, L) bool."""
    return hashed_uniforms(indices, task.length, "keys", *address) < task.key_rate


def latest_key(task: Task, values: np.ndarray, indices: np.ndarray, address: Address) -> tuple[np.ndarray, np.ndarray]:
    """The value one after the latest key that is `lag` or more tokens back, 0 before the first; scaled to unit variance."""
    keys = draw_keys(task, indices, address)
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
