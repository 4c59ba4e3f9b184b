"""Planted tasks: the scan directions that solve them are known, so a search can be marked right or wrong.

A causal task on a sequence of L tokens is laid on the grid along a direction. The sequences and their targets do not
depend on the direction, so the tasks of any two directions are exactly equally hard. Shapes: images (B, C, H, W) and dense
targets (B, L, O) in raster order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lmsearch.data.arrays import ArrayDataset
from lmsearch.data.batch import Batch
from lmsearch.data.checks import choice, number, size2d, whole
from lmsearch.data.info import DataInfo, Dataset, Source
from lmsearch.data.sources.planted_designs import Chained, Design, Groups, Memorised, Noise
from lmsearch.data.sources.planted_tasks import DEFAULT_LAG, TASKS, Address, Task
from lmsearch.data.sources.planted_teacher import Teacher
from lmsearch.errors import DataError
from lmsearch.scan.directions import parse_direction
from lmsearch.scan.grids import Grid, num_tokens

CHAINED, TEACHER = "chained", "teacher"
TASK_NAMES = ", ".join(TASKS)
NAMES = (*TASKS, CHAINED, TEACHER)


@dataclass(frozen=True)
class Planted:
    """A design on a grid; `root` is where the addresses of its samples begin."""

    design: Design
    grid: Grid
    root: Address = ("planted",)

    def sample(self, indices: np.ndarray, *address: int | str, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, C, H, W) and targets (B, L, O), those of training or the clean ones."""
        images, targets = self.design.draw(indices, (*self.root, *address), training=training)
        return torch.from_numpy(images).unflatten(-1, self.grid), torch.from_numpy(targets)

    def fixed(self, name: str, size: int, *, training: bool = False) -> ArrayDataset:
        """Return the `size` samples of the set `name`: the same in every run, whatever its seed."""
        images, targets = self.sample(np.arange(size), name, training=training)
        chans = self.design.in_chans
        return ArrayDataset(images, targets, (0.0,) * chans, (1.0,) * chans)


@dataclass(frozen=True)
class FreshSamples:
    """Fresh samples in every epoch, by the address (stream, seed, epoch, index): `steps_per_epoch` batches of them."""

    planted: Planted
    steps_per_epoch: int
    holdout_size: int
    name: str = "train"
    labels: None = None
    in_memory: bool = True

    def stream(self, name: str) -> FreshSamples:
        """Return a stream of other samples."""
        return replace(self, name=name)

    def holdout(self) -> ArrayDataset:
        """Return fixed samples that no stream gives."""
        return self.planted.fixed("held_out", self.holdout_size)

    def epoch_size(self, global_batch: int) -> int:
        """Return the samples of `steps_per_epoch` batches over all ranks."""
        return self.steps_per_epoch * global_batch

    def train_batch(self, indices: np.ndarray, *, seed: int, epoch: int) -> Batch:
        """Return the samples `indices` (B,) of the epoch, with the targets of training."""
        return Batch(*self.planted.sample(indices, self.name, seed, epoch, training=True), torch.from_numpy(indices))

    def eval_batch(self, indices: np.ndarray) -> Batch:
        """Return samples that belong to no epoch, with clean targets."""
        return Batch(*self.planted.sample(indices, self.name, "eval", training=False), torch.from_numpy(indices))


def build_planted(
    *,
    direction: str = "h",
    directions: Sequence[str] | Sequence[Sequence[str]] | None = None,
    task: str = "decayed_sum",
    grid: int | tuple[int, int] = 8,
    num_train: int | None = None,
    set_seed: int = 0,
    noise: float = 0.0,
    input_noise: float = 0.0,
    memorise: str | None = None,
    memorise_strength: float = 2.0,
    code_chans: int = 64,
    steps_per_epoch: int = 30,
    val_size: int = 512,
    test_size: int = 1024,
    decay: float = 0.9,
    lag: int | None = None,
    key_rate: float = 0.1,
) -> Source:
    """Return the planted task. `num_train` None: fresh data in every step of an epoch of `steps_per_epoch` steps.

    `directions` in place of `direction`: one channel group each; for "chained" those of the first and the second layer; for
    "teacher" one list per layer of the teacher. `memorise`: a direction along which training targets can be learned by heart.
    A finite training set, the val and test sets and a teacher's weights follow from `set_seed`, whatever the seed of the
    run. Val and test targets carry no noise. `lag` None is 4 for sums and 1 for keys; it is at least 1 and less than the
    number of tokens.
    """
    grid, name = size2d("grid", grid), choice("task", task, NAMES)
    noises = Noise(number("noise", noise, least=0), number("input_noise", input_noise, least=0))
    chosen, set_seed = (direction,) if directions is None else directions, whole("set_seed", set_seed)
    if name == TEACHER:
        design: Design = Teacher(teacher_layers(chosen), grid, set_seed, noises)
    elif name == CHAINED:
        summed, recalled = (
            sequence_task(part, grid, decay=decay, lag=lag, key_rate=key_rate) for part in ("decayed_sum", "latest_key")
        )
        first, second = planted_directions(chosen, count=2)
        design = Chained(summed, recalled, (first, second), grid, noises)
    else:
        one = sequence_task(name, grid, decay=decay, lag=lag, key_rate=key_rate)
        design = Groups(one, planted_directions(chosen), grid, noises)
    if memorise is not None:
        if not isinstance(design, Groups):
            raise DataError(f"memorise is {memorise!r}, but task {name!r} has no part to learn by heart; use {TASK_NAMES}")
        design = Memorised(
            design,
            parse_direction(memorise).name,
            number("memorise_strength", memorise_strength, least=0),
            whole("code_chans", code_chans, least=1),
        )
    planted = Planted(design, grid, ("planted", set_seed) if set_seed else ("planted",))
    val, test = (
        planted.fixed(part, whole(f"{part}_size", size, least=1)) for part, size in (("val", val_size), ("test", test_size))
    )
    if num_train is None:
        train: Dataset = FreshSamples(planted, whole("steps_per_epoch", steps_per_epoch, least=1), holdout_size=len(val.images))
    else:
        train = planted.fixed("train", whole("num_train", num_train, least=1), training=True)
    return Source(describe_planted(design, grid), train, val, test)


def describe_planted(design: Design, grid: Grid) -> DataInfo:
    """Return the description of a design's data."""
    (height, width), outputs, chans = grid, design.num_outputs, design.in_chans
    names = ("target",) if outputs == 1 else tuple(f"target{o}" for o in range(outputs))
    none, one = (0.0,) * chans, (1.0,) * chans
    return DataInfo("planted", outputs, names, (height, width), chans, none, one, target="dense", crop_pct=1.0)


def sequence_task(name: str, grid: Grid, *, decay: float, lag: int | None, key_rate: float) -> Task:
    """Return the task `name` on sequences as long as the grid has tokens."""
    length = num_tokens(grid)
    lag = DEFAULT_LAG.get(name, 1) if lag is None else whole("lag", lag, least=1)
    if lag >= length:
        raise DataError(f"grid is {list(grid)}: its {length} tokens are no more than the lag of {lag}; take a larger grid")
    return Task(
        name,
        length,
        decay=number("decay", decay, least=0.0, most=1.0),
        lag=lag,
        key_rate=number("key_rate", key_rate, least=1e-6, most=1.0),
    )


def planted_directions(chosen: object, *, count: int | None = None) -> tuple[str, ...]:
    """Return canonical names of one or more directions, exactly `count` where it is given."""
    listed = isinstance(chosen, Sequence) and not isinstance(chosen, str) and all(isinstance(d, str) for d in chosen)
    if not isinstance(chosen, Sequence) or not listed or not chosen or (count is not None and len(chosen) != count):
        many = "one or more" if count is None else count
        raise DataError(f"directions is {chosen!r}; expected a list of {many} scan directions, such as [h,v_flip]")
    return tuple(parse_direction(d).name for d in chosen)


def teacher_layers(chosen: object) -> tuple[tuple[str, ...], ...]:
    """Return the teacher's directions per layer."""
    if not isinstance(chosen, Sequence) or isinstance(chosen, str) or not chosen or any(isinstance(c, str) for c in chosen):
        raise DataError(f"directions is {chosen!r}; a teacher takes one list per layer, such as [[h,v],[w2,h_flip]]")
    return tuple(planted_directions(layer) for layer in chosen)
