"""RandAugment (arXiv 1909.13719) on Pillow images: a few operations at random, each at a magnitude m in [0, 10].

Every operation grows stronger with m. `strength` is m / 10; what moves in from outside has the colour `fill`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Fill = tuple[int, ...]
LARGEST_MAGNITUDE = 10.0


def _affine(image: Image.Image, matrix: tuple[float, ...], fill: Fill) -> Image.Image:
    """Apply an inverse affine map (x, y) -> (ax + by + c, dx + ey + f)."""
    colour = fill if len(fill) > 1 else fill[0]
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC, fillcolor=colour)


def rotate(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Rotate by up to 30 degrees about the centre."""
    colour = fill if len(fill) > 1 else fill[0]
    return image.rotate(sign * 30 * strength, resample=Image.Resampling.BICUBIC, fillcolor=colour)


def shear_x(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Shear rows by up to 0.3."""
    return _affine(image, (1, sign * 0.3 * strength, 0, 0, 1, 0), fill)


def shear_y(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Shear columns by up to 0.3."""
    return _affine(image, (1, 0, 0, sign * 0.3 * strength, 1, 0), fill)


def translate_x(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Move sideways by up to 0.45 of the width."""
    return _affine(image, (1, 0, sign * 0.45 * strength * image.width, 0, 1, 0), fill)


def translate_y(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Move up or down by up to 0.45 of the height."""
    return _affine(image, (1, 0, 0, 0, 1, sign * 0.45 * strength * image.height), fill)


def auto_contrast(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Stretch every channel to the full range."""
    return ImageOps.autocontrast(image)


def equalize(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Flatten every channel's histogram."""
    return ImageOps.equalize(image)


def invert(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Negative image."""
    return ImageOps.invert(image)


def posterize(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Keep 8 to 4 bits per channel."""
    return ImageOps.posterize(image, 8 - int(4 * strength))


def solarize(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Invert values from a threshold on, 256 down to 0."""
    return ImageOps.solarize(image, 256 - int(256 * strength))


def solarize_add(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Add up to 110 to the values below 128."""
    added = int(110 * strength)
    table = [min(255, value + added) if value < 128 else value for value in range(256)]
    return image.point(table * len(image.getbands()))


def color(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Change the saturation by up to 90 %."""
    return ImageEnhance.Color(image).enhance(1 + sign * 0.9 * strength)


def contrast(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Change the contrast by up to 90 %."""
    return ImageEnhance.Contrast(image).enhance(1 + sign * 0.9 * strength)


def brightness(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Change the brightness by up to 90 %."""
    return ImageEnhance.Brightness(image).enhance(1 + sign * 0.9 * strength)


def sharpness(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Sharpen or blur by up to 90 %."""
    return ImageEnhance.Sharpness(image).enhance(1 + sign * 0.9 * strength)


Operation = Callable[[Image.Image, float, int, Fill], Image.Image]
OPERATIONS: tuple[Operation, ...] = (
    auto_contrast, equalize, invert, rotate, posterize, solarize, solarize_add, color, contrast, brightness, sharpness,
    shear_x, shear_y, translate_x, translate_y,
)  # fmt: skip


def rand_augment(
    image: Image.Image,
    rng: np.random.Generator,
    *,
    num_ops: int = 2,
    magnitude: float = 9.0,
    magnitude_std: float = 0.5,
    op_prob: float = 0.5,
    fill: Fill,
) -> Image.Image:
    """Apply `num_ops` random operations (with replacement) to an RGB or L image, each with probability `op_prob`.

    The magnitude is drawn for each from Normal(magnitude, magnitude_std), clipped to [0, 10]. Every call consumes the same
    number of draws.
    """
    choices = rng.integers(len(OPERATIONS), size=num_ops)
    applied, signs = rng.random(num_ops) < op_prob, rng.integers(2, size=num_ops) * 2 - 1
    magnitudes = np.clip(magnitude + magnitude_std * rng.standard_normal(num_ops), 0, LARGEST_MAGNITUDE)
    for choice, apply, sign, m in zip(choices, applied, signs, magnitudes, strict=True):
        if apply:
            image = OPERATIONS[choice](image, float(m) / LARGEST_MAGNITUDE, int(sign), fill)
    return image
