"""A data set made on the spot: textured shapes and real handwritten digits on textured ground, with class, mask and box.

Every image is a function of (seed, split, number). Three of four objects have the usual colour of their class.
Objects hide what lies behind them: masks are of what is seen.
Shapes: H W image, n objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from lmsearch.data.dense.outlines import boxes_of
from lmsearch.data.keyed import keyed_rng

MOST_OBJECTS = 4
EMPTY = 5  # every so many images one shows nothing
FEWEST_PIXELS = 12  # of an object that is seen; one with fewer is not drawn
DIGIT = "digit"
USUAL = 0.75  # how many of the objects of a class have its usual colour; the others are told by their form alone
MIXED = 0.4  # how far the two colours of a texture go from the one that they share
Form = Callable[[np.ndarray, np.ndarray], np.ndarray]  # whether points (x, y), of a form of about radius 1, lie inside it
FORMS: dict[str, Form] = {
    "disc": lambda x, y: x**2 + y**2 < 1,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.85,
    "triangle": lambda x, y: (y < 0.6) & (y > 1.8 * abs(x) - 1),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) < 0.32) & (np.maximum(abs(x), abs(y)) < 1),
}
CLASSES = (*FORMS, DIGIT)
COLOURS = {
    "disc": (0.9, 0.2, 0.2),
    "square": (0.2, 0.7, 0.3),
    "triangle": (0.2, 0.3, 0.9),
    "cross": (0.9, 0.8, 0.2),
    DIGIT: (0.8, 0.3, 0.8),
}


@dataclass(frozen=True, eq=False)
class Scene:
    """An image (H, W, 3) uint8 with its objects: classes (n,) as places in CLASSES, masks (n, H, W) bool."""

    image: np.ndarray
    classes: np.ndarray
    masks: np.ndarray

    @property
    def boxes(self) -> np.ndarray:
        """Left, top, right, bottom of the objects (n, 4)."""
        return boxes_of(self.masks)

    @property
    def class_map(self) -> np.ndarray:
        """The class of every pixel (H, W) uint8: 0 is the ground, k the class number k - 1."""
        classes = np.zeros(self.image.shape[:2], dtype=np.uint8)
        for label, mask in zip(self.classes, self.masks, strict=True):
            classes[mask] = label + 1
        return classes


def make_scene(number: int, *, split: str, size: tuple[int, int], seed: int = 0) -> Scene:
    """Return the image of that number in a split; `size` is (height, width)."""
    rng = keyed_rng("shapes", seed, split, number)
    image = _texture(rng, size, rng.uniform(0, 1, 3))
    masks: list[np.ndarray] = []
    classes: list[int] = []
    for _ in range(int(rng.integers(1, MOST_OBJECTS + 1)) if (number + 1) % EMPTY else 0):
        label = int(rng.integers(len(CLASSES)))
        mask = _mask(rng, CLASSES[label], size)
        seen = [other & ~mask for other in masks]
        if min((int(part.sum()) for part in [mask, *seen]), default=0) < FEWEST_PIXELS:
            continue
        colour = COLOURS[CLASSES[label]] if rng.uniform() < USUAL else rng.uniform(0, 1, 3)
        image = np.where(mask[..., None], _texture(rng, size, colour), image)
        masks, classes = [*seen, mask], [*classes, label]
    pixels = (255 * image).round().astype(np.uint8)
    return Scene(pixels, np.array(classes, dtype=np.int64), np.array(masks, dtype=bool).reshape(-1, *size))


def _mask(rng: np.random.Generator, name: str, size: tuple[int, int]) -> np.ndarray:
    """Return where an object of a random place, size and turn lies (H, W) bool."""
    height, width = size
    radius = min(size) * rng.uniform(0.1, 0.28)
    centre = rng.uniform(0.1, 0.9, 2) * (height, width)
    angle = rng.uniform(-0.4, 0.4)
    y, x = ((np.arange(side) + 0.5 - middle) / radius for side, middle in zip(size, centre, strict=True))
    y, x = y[:, None], x[None]
    across, down = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return _digit(rng, across, down) if name == DIGIT else FORMS[name](across, down)


def _digit(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return where the strokes of a random real digit are, drawn over points from -1 to 1."""
    images = _digits()
    image = images[int(rng.integers(len(images)))]
    side = image.shape[0]
    column, row = (np.floor((values + 1) / 2 * side).astype(int) for values in (x, y))
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    hit: np.ndarray = inside & image[row.clip(0, side - 1), column.clip(0, side - 1)]
    return hit


@cache
def _digits() -> np.ndarray:
    """Return where the digits of scikit-learn have ink (N, 32, 32) bool, enlarged."""
    from sklearn.datasets import load_digits  # slow to import

    images = load_digits().images[:300].astype(np.float32)  # (N, 8, 8)
    enlarged = [np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)) for image in images]
    return np.array(enlarged) > 7


def _texture(rng: np.random.Generator, size: tuple[int, int], colour: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return stripes of two colours near this one, with noise (H, W, 3) in [0, 1]."""
    height, width = size
    angle, wave = rng.uniform(0, np.pi), rng.uniform(3, 12)
    y, x = np.mgrid[:height, :width]
    stripes = 0.5 + 0.5 * np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / wave + rng.uniform(0, 6))
    colours = (1 - MIXED) * np.asarray(colour) + MIXED * rng.uniform(0, 1, (2, 3))
    mixed = stripes[..., None] * colours[0] + (1 - stripes[..., None]) * colours[1]
    noisy: np.ndarray = mixed + rng.normal(0, 0.05, (height, width, 3))
    return noisy.clip(0, 1)
