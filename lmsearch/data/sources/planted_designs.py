"""Planted designs: how sequence tasks are laid on the grid, so that one direction, a set, or an order of layers is right.

A design draws images (B, C, L) and targets (B, L, O), both in raster order; sample b depends on (address, indices[b]) only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lmsearch.data.keyed import hashed_normals, hashed_uniforms
from lmsearch.data.sources.planted_tasks import Address, Task, decayed_sum, delayed_sums, draw_keys, latest_key
from lmsearch.scan.directions import index_table, parse_direction
from lmsearch.scan.grids import Grid

Drawn = tuple[np.ndarray, np.ndarray]


class Design(Protocol):
    """What build_planted can make a source of."""

    @property
    def in_chans(self) -> int:
        """Channels of the images."""

    @property
    def num_outputs(self) -> int:
        """Values per token of the targets."""

    def draw(self, indices: np.ndarray, address: Address, *, training: bool) -> Drawn:
        """Return images (B, C, L) and targets (B, L, O); `training` targets carry noise and private parts."""


def order_of(direction: str, grid: Grid) -> np.ndarray:
    """Return the raster indices (L,) in the order of the visit."""
    order: np.ndarray = index_table((parse_direction(direction).name,), grid)[0]
    return order


def place(sequences: np.ndarray, direction: str, grid: Grid) -> np.ndarray:
    """Lay sequences (..., L) on the grid along `direction`: (..., L) in raster order."""
    placed = np.empty_like(sequences)
    placed[..., order_of(direction, grid)] = sequences
    return placed


@dataclass(frozen=True)
class Noise:
    """Standard deviations of noise: on training targets, and on the values of every image."""

    targets: float = 0.0
    inputs: float = 0.0

    def on_inputs(self, sequences: np.ndarray, indices: np.ndarray, address: Address) -> None:
        """Add noise to the values, channel 0 of sequences (B, C, L), in place; keys stay exact."""
        if self.inputs:
            noise = hashed_normals(indices, sequences.shape[-1], "input_noise", *address)
            sequences[:, 0] += np.float32(self.inputs) * noise

    def on_targets(self, targets: np.ndarray, indices: np.ndarray, address: Address) -> np.ndarray:
        """Return targets (B, L) with noise."""
        if not self.targets:
            return targets
        return targets + np.float32(self.targets) * hashed_normals(indices, targets.shape[-1], "noise", *address)


@dataclass(frozen=True)
class Groups:
    """One independent copy of the task per direction, each with channels and an output of its own.

    Output g is a function of the channels of group g along directions[g] alone, so a layer that keeps as many directions as
    there are groups does best with exactly these. One direction is the plain planted task.
    """

    task: Task
    directions: tuple[str, ...]
    grid: Grid
    noise: Noise = Noise()

    @property
    def in_chans(self) -> int:
        """Channels of all groups."""
        return self.task.in_chans * len(self.directions)

    @property
    def num_outputs(self) -> int:
        """One per group."""
        return len(self.directions)

    def draw(self, indices: np.ndarray, address: Address, *, training: bool) -> Drawn:
        """See Design."""
        groups = [self._group(indices, address, g, training=training) for g in range(len(self.directions))]
        images, targets = zip(*groups, strict=True)
        return np.concatenate(images, axis=1), np.stack(targets, axis=-1)

    def _group(self, indices: np.ndarray, address: Address, group: int, *, training: bool) -> Drawn:
        """Return the channels (B, C, L) and the target (B, L) of one group."""
        own = (*address, "group", group) if group else address
        sequences, targets = self.task.draw(indices, own)
        self.noise.on_inputs(sequences, indices, own)
        if training:
            targets = self.noise.on_targets(targets, indices, own)
        direction = self.directions[group]
        return place(sequences, direction, self.grid), place(targets, direction, self.grid)


@dataclass(frozen=True)
class Chained:
    """Two tasks in a row: the decayed sum along directions[0], recalled after the latest key along directions[1].

    Two decayed sums would not do: both are linear and shifts along rows and columns commute, so either order of layers
    would solve them. Recall is not linear in the tokens, so the sum must be ready at the key: the first layer has to sum.
    """

    summed: Task
    recalled: Task
    directions: tuple[str, str]
    grid: Grid
    noise: Noise = Noise()
    in_chans: int = 2  # value, key
    num_outputs: int = 1

    def draw(self, indices: np.ndarray, address: Address, *, training: bool) -> Drawn:
        """See Design."""
        first, second = self.directions
        values = hashed_normals(indices, self.summed.length, "values", *address)
        sequences, sums = decayed_sum(self.summed, values, indices, address)
        along = place(sums, first, self.grid)[:, order_of(second, self.grid)]  # as the second layer meets them
        recalled, targets = latest_key(self.recalled, along, indices, address)
        if training:
            targets = self.noise.on_targets(targets, indices, address)
        self.noise.on_inputs(sequences, indices, address)
        images = [place(sequences[:, 0], first, self.grid), place(recalled[:, 1], second, self.grid)]
        return np.stack(images, axis=1), place(targets, second, self.grid)[..., None]


@dataclass(frozen=True)
class Memorised:
    """A real rule, and beside it a part of the training targets that can only be learned by heart, along `direction`.

    Some tokens of a sample are markers (by the rule's key rate). Every marker shows the sample's code, `code_chans` random
    signs; the other tokens show zeros there. A training target is
        (rule + strength * secret * echo) / sqrt(1 + strength^2),
    echo being the decayed sum of the markers along `direction` (unit power) and `secret` a random sign of the sample. No
    code tells its secret, so reading the markers along `direction` pays only for a network that has learned which code of
    the training set goes with which sign. Targets of val and test have secret 0: the rule alone.
    """

    rule: Groups
    direction: str
    strength: float
    code_chans: int

    @property
    def in_chans(self) -> int:
        """The rule's channels, then the code's."""
        return self.rule.in_chans + self.code_chans

    @property
    def num_outputs(self) -> int:
        """The rule's."""
        return self.rule.num_outputs

    def draw(self, indices: np.ndarray, address: Address, *, training: bool) -> Drawn:
        """See Design."""
        images, targets = self.rule.draw(indices, address, training=training)
        markers, echo = self.echo(indices, address)
        code = np.sign(hashed_uniforms(indices, self.code_chans, "code", *address) - 0.5).astype(np.float32)
        images = np.concatenate([images, code[:, :, None] * markers[:, None]], axis=1)
        if training:
            secret = np.sign(hashed_uniforms(indices, 1, "secret", *address) - 0.5).astype(np.float32)
            targets = targets + np.float32(self.strength) * (secret * echo)[..., None]
        return images, targets / np.float32(np.sqrt(1 + self.strength**2))

    def echo(self, indices: np.ndarray, address: Address) -> Drawn:
        """Return the markers (B, L), 0 or 1, and what they echo along `direction` (B, L), in raster order."""
        task, grid = self.rule.task, self.rule.grid
        markers = draw_keys(task, indices, ("markers", *address)).astype(np.float32)
        sums = delayed_sums(markers, decay=task.decay, lag=task.lag)
        echo = (sums / np.sqrt(echo_power(task))).astype(np.float32)
        return place(markers, self.direction, grid), place(echo, self.direction, grid)


def echo_power(task: Task) -> float:
    """Mean square, over tokens, of the decayed sum of markers that are 1 with probability key_rate, else 0."""
    powers = task.decay ** np.arange(task.length - task.lag, dtype=np.float64)
    variances = task.key_rate * (1 - task.key_rate) * np.cumsum(powers**2)
    return float((variances + (task.key_rate * np.cumsum(powers)) ** 2).sum() / task.length)
