"""From an image to a normalised tensor: random crop and flip for training, resize and centre crop for evaluation.

Shapes: Pillow images in mode "L" or "RGB"; tensors (C, H, W) float32; img_size is (H, W).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from lmsearch.data.info import DataInfo
from lmsearch.data.randaugment import SETS, rand_augment

BICUBIC = Image.Resampling.BICUBIC


def to_tensor(image: Image.Image, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Scale to [0, 1] and normalise each channel: (C, H, W) float32."""
    levels = np.arange(256, dtype=np.float32) / 255
    table = (levels - np.asarray(mean, dtype=np.float32)[:, None]) / np.asarray(std, dtype=np.float32)[:, None]  # (C, 256)
    pixels = np.asarray(image).reshape(image.height, image.width, len(mean))
    normalised = np.empty((len(mean), image.height, image.width), dtype=np.float32)
    for channel, values in enumerate(table):
        np.take(values, pixels[..., channel], out=normalised[channel], mode="clip")  # clip: without a copy
    return torch.from_numpy(normalised)


def eval_image(image: Image.Image, img_size: tuple[int, int], crop_pct: float) -> Image.Image:
    """Resize (bicubic) to cover img_size / crop_pct without distortion, then crop the centre to img_size."""
    height, width = img_size
    cover = [int(side / crop_pct) for side in img_size]
    ratio = max(cover[0] / image.height, cover[1] / image.width)
    resized = [max(least, int(side * ratio + 1e-6)) for least, side in zip(cover, (image.height, image.width), strict=True)]
    top, left = round((resized[0] - height) / 2), round((resized[1] - width) / 2)
    if resized != [image.height, image.width]:
        image = image.resize((resized[1], resized[0]), BICUBIC)
    return image.crop((left, top, left + width, top + height))


def random_crop_box(
    height: int, width: int, rng: np.random.Generator, *, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of a box of a random share `scale` of the area and of aspect width / height in `ratio`.

    The share is uniform, the aspect log-uniform; after ten boxes that do not fit, the largest centred box of an allowed aspect.
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = max(1, min(width, round(height * aspect))), max(1, min(height, round(width / aspect)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def random_erase(
    image: torch.Tensor,
    rng: np.random.Generator,
    *,
    prob: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
    ratio: tuple[float, float] = (0.3, 1 / 0.3),
) -> torch.Tensor:
    """With probability `prob`, return a copy of a normalised image (C, H, W) with a random box of unit-variance pixel noise.

    arXiv 1708.04896: the box takes a share `area` of the image, its aspect (log-uniform) lies in `ratio`; ten attempts to fit.
    """
    if rng.random() >= prob:
        return image
    channels, height, width = image.shape
    for _ in range(10):
        share = height * width * rng.uniform(*area)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        h, w = round(math.sqrt(share * aspect)), round(math.sqrt(share / aspect))
        if 0 < h < height and 0 < w < width:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            image = image.clone()
            noise = rng.standard_normal((channels, h, w), dtype=np.float32)
            image[:, top : top + h, left : left + w] = torch.from_numpy(noise)
            return image
    return image


@dataclass(frozen=True)
class TrainTransform:
    """Random resized crop, horizontal flip, RandAugment, normalisation, random erasing; a rate or num_ops of 0 turns one off."""

    info: DataInfo
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_prob: float = 0.5
    randaugment_ops: int = 2
    randaugment_magnitude: float = 9.0
    randaugment_std: float = 0.5
    erasing_prob: float = 0.25
    randaugment_set: str = "increasing"  # a name of SETS

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> torch.Tensor:
        """Return the augmented image (C, H, W); every draw comes from `rng`."""
        height, width = self.info.img_size
        box = random_crop_box(image.height, image.width, rng, scale=self.scale, ratio=self.ratio)
        image = image.crop(box).resize((width, height), BICUBIC)
        if rng.random() < self.flip_prob:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = rand_augment(
            image,
            rng,
            num_ops=self.randaugment_ops,
            magnitude=self.randaugment_magnitude,
            magnitude_std=self.randaugment_std,
            operations=SETS[self.randaugment_set],
            fill=tuple(round(255 * m) for m in self.info.mean),
        )
        return random_erase(to_tensor(image, self.info.mean, self.info.std), rng, prob=self.erasing_prob)


def eval_tensor(image: Image.Image, info: DataInfo) -> torch.Tensor:
    """Return an image as evaluation sees it: (C, H, W), normalised."""
    return to_tensor(eval_image(image, info.img_size, info.crop_pct), info.mean, info.std)
