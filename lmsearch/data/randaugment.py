"""RandAugment (arXiv 1909.13719) on Pillow images: a few operations at random, each at a magnitude m in [0, 10].

`strength` is m / 10; what moves in from outside has the colour `fill`. In the set "increasing" every operation grows stronger
with m, as in timm's "inc1". "localmamba" is what its released code trains with: colours go from 0.1 to 1.9 times what they are,
`solarize_from` and `posterize_to` grow weaker with m, and there are four more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

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


def posterize_to(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Keep 0 to 4 bits per channel."""
    kept = 256 - 2 ** (8 - int(4 * strength))
    return image.point([value & kept for value in range(256)] * len(image.getbands()))


def solarize_from(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Invert values from a threshold on, 0 up to 256."""
    return ImageOps.solarize(image, int(256 * strength))


def enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    """Return what multiplies a property of an image by 0.1 to 1.9."""
    return lambda image, strength, sign, fill: kind(image).enhance(0.1 + 1.8 * strength)


def zoom_out(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Shrink to 0 to 0.4 of the sides, in the middle of black."""
    width, height = (max(1, round(0.4 * strength * side)) for side in image.size)
    shown = Image.new(image.mode, image.size)
    middle = -((width - image.width) // 2), -((height - image.height) // 2)
    shown.paste(image.resize((width, height), Image.Resampling.BICUBIC), middle)
    return shown


def blur(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Blur by up to half a pixel."""
    return image.filter(ImageFilter.GaussianBlur(0.5 * strength))


def skew(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Pull each corner along a side, in or out, by up to 0.3 of the larger side: that turns and scales. Outside is black."""
    (w, h), m = image.size, math.ceil(sign * 0.3 * strength * max(image.size))
    size = (w + m) * (h + m) + m * m
    a, b, d, e = w * (h + m) / size, -w * m / size, h * m / size, h * (w + m) / size
    return _affine(image, (a, b, a * m, d, e, d * m), (0,) * len(fill))


def leave(image: Image.Image, strength: float, sign: int, fill: Fill) -> Image.Image:
    """Leave the image as it is: the released code distorts by tiles, of which there is one below the largest magnitude."""
    return image


Operation = Callable[[Image.Image, float, int, Fill], Image.Image]
OPERATIONS: tuple[Operation, ...] = (
    auto_contrast, equalize, invert, rotate, posterize, solarize, solarize_add, color, contrast, brightness, sharpness,
    shear_x, shear_y, translate_x, translate_y,
)  # fmt: skip
SETS = {
    "increasing": OPERATIONS,
    "localmamba": (
        leave, zoom_out, blur, skew, auto_contrast, equalize, invert, rotate, posterize_to, solarize_from, solarize_add,
        *map(enhanced, (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness, ImageEnhance.Sharpness)),
        shear_x, shear_y, translate_x, translate_y,
    ),
}  # fmt: skip


def rand_augment(
    image: Image.Image,
    rng: np.random.Generator,
    *,
    num_ops: int = 2,
    magnitude: float = 9.0,
    magnitude_std: float = 0.5,
    op_prob: float = 0.5,
    operations: Sequence[Operation] | None = None,
    fill: Fill,
) -> Image.Image:
    """Apply `num_ops` random operations (with replacement) to an RGB or L image, each with probability `op_prob`.

    The magnitude is drawn for each from Normal(magnitude, magnitude_std), clipped to [0, 10]. Every call consumes the same
    number of draws. `operations` None: those of "increasing".
    """
    operations = OPERATIONS if operations is None else operations
    choices = rng.integers(len(operations), size=num_ops)
    applied, signs = rng.random(num_ops) < op_prob, rng.integers(2, size=num_ops) * 2 - 1
    magnitudes = np.clip(magnitude + magnitude_std * rng.standard_normal(num_ops), 0, LARGEST_MAGNITUDE)
    for choice, apply, sign, m in zip(choices, applied, signs, magnitudes, strict=True):
        if apply:
            image = operations[choice](image, float(m) / LARGEST_MAGNITUDE, int(sign), fill)
    return image
