"""The tasks of ScanBench: data, network and recipe of each, as plain values that the config hash covers.

Shapes: images (B, C, L) and targets (B, L, O), both in raster order (lmsearch.data.sources.planted_designs.Design).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

import numpy as np

from lmsearch.data import DataInfo, Source, build_source
from lmsearch.data.keyed import hashed_normals
from lmsearch.data.sources.planted import FreshSamples, Planted
from lmsearch.data.sources.planted_designs import order_of, place
from lmsearch.data.sources.planted_tasks import delayed_sums
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.recipe import Recipe
from lmsearch.scan.grids import Grid
from lmsearch.scanbench.spaces import CANDIDATES

STRENGTHS = (0.40, 0.05, 0.20, 0.02, 0.10, 0.15, 0.01, 0.07)  # share of the target's variance per candidate, in their order


@dataclass(frozen=True)
class Graded:
    """Each token's target is a weighted sum over all directions of the decayed sum along each: every direction helps a bit.

    `strengths` are the weights' squares. One direction leaves 1 - its strength unexplained, if directions did not overlap.
    """

    directions: tuple[str, ...]
    strengths: tuple[float, ...]
    grid: Grid
    decay: float = 0.9
    lag: int = 4
    in_chans: int = 1
    num_outputs: int = 1

    def draw(self, indices: np.ndarray, address: tuple, *, training: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return images and targets; those of training and the clean ones are the same."""
        length = self.grid[0] * self.grid[1]
        values = hashed_normals(indices, length, "values", *address)
        scale = np.sqrt(np.cumsum(self.decay ** (2.0 * np.arange(length - self.lag))).sum() / length)
        targets = np.zeros(values.shape)
        for direction, strength in zip(self.directions, self.strengths, strict=True):
            sums = delayed_sums(values[:, order_of(direction, self.grid)], decay=self.decay, lag=self.lag)
            targets += np.sqrt(strength) * place(sums, direction, self.grid) / scale
        return values[:, None], targets[..., None].astype(np.float32)


@dataclass(frozen=True)
class BenchTask:
    """`source_options` of build_source, `model` with `options` of create_model, `recipe`, and seeds 0 to num_seeds - 1."""

    name: str
    source: dict
    model: str
    options: dict
    recipe: Recipe
    num_seeds: int = 4

    def digest(self) -> str:
        """Return the SHA-256 of all that decides a row beside architecture and seed."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def build(self) -> Source:
        """Return the data."""
        options = dict(self.source)
        name = options.pop("name")
        return graded_source(**options) if name == "graded" else build_source(name, **options)

    def spec(self, info: DataInfo, depth: int) -> ModelSpec:
        """Return the network of `depth` layers without its directions, which are the architecture."""
        given = {"depth": depth, "img_size": list(info.img_size), "in_chans": info.in_chans, "num_classes": info.num_classes}
        return ModelSpec(self.model, (), "sum", self.options | given, {"info": asdict(info), "source": self.source})


def graded_source(
    *,
    grid: int,
    steps_per_epoch: int,
    val_size: int,
    test_size: int,
    strengths: Sequence[float] = STRENGTHS,
    images: str = "graded",
) -> Source:
    """Return the graded task with fresh training data; tasks with other `images` share no sample."""
    planted = Planted(Graded(CANDIDATES, tuple(strengths), (grid, grid)), (grid, grid), root=(images,))
    train = FreshSamples(planted, steps_per_epoch, holdout_size=val_size)
    info = DataInfo("graded", 1, ("target",), (grid, grid), 1, (0.0,), (1.0,), target="dense", crop_pct=1.0)
    return Source(info, train, planted.fixed("val", val_size), planted.fixed("test", test_size))


def recipe(*, epochs: int, lr: float, min_lr: float, weight_decay: float, warmup_epochs: int) -> Recipe:
    """Return a plain AdamW recipe: batch 32, gradients clipped, no mixing, no smoothing, no average."""
    betas, plain = (0.9, 0.999), (0.0, 0.0, 0.0, 0.0, 0.5)
    return Recipe(epochs, 32, lr, min_lr, min_lr, warmup_epochs, weight_decay, betas, 1.0, *plain, None)


SIZES = {"grid": 8, "steps_per_epoch": 30, "val_size": 256, "test_size": 256}
TINY = {"patch_size": 1, "embed_dim": 16, "d_state": 8, "drop_path_rate": 0.0, "attention": "none"}
DENSE = TINY | {"window_padding": "none", "use_rope": False, "rope_residual": False, "global_pool": ""}
PLANTED_RECIPE = recipe(epochs=5, lr=0.01, min_lr=0.001, weight_decay=0.0, warmup_epochs=0)
DIGITS_RECIPE = recipe(epochs=6, lr=0.02, min_lr=1e-5, weight_decay=0.05, warmup_epochs=1)
PLAIN_DIGITS = {"name": "digits", "shift": 0, "rotate_degrees": 0.0, "scale": 0.0}


def graded(name: str, strengths: Sequence[float]) -> BenchTask:
    """Return a graded task with other strengths and images of its own."""
    source = {"name": "graded", "strengths": list(strengths), "images": name} | SIZES
    return BenchTask(name, source, "local_vim", DENSE, PLANTED_RECIPE)


def planted_sum(direction: str, *, num_seeds: int = 4) -> BenchTask:
    """Return the decayed sum along `direction`."""
    source = {"name": "planted", "task": "decayed_sum", "direction": direction} | SIZES
    return BenchTask(f"sum_{direction}", source, "local_vim", DENSE, PLANTED_RECIPE, num_seeds)


TASKS = {
    task.name: task
    for task in (
        planted_sum("h"),
        BenchTask("graded", {"name": "graded"} | SIZES, "local_vim", DENSE, PLANTED_RECIPE),
        BenchTask("digits", PLAIN_DIGITS, "local_vim_nano", {"embed_dim": 16, "attention": "none"}, DIGITS_RECIPE),
        planted_sum("v"),
        planted_sum("w2"),
        planted_sum("w4"),
        planted_sum("h_flip", num_seeds=1),  # for the check that reversing every direction changes nothing
    )
}
SCORED = ("sum_h", "graded", "digits")  # tasks on which supernets are compared with the tables
