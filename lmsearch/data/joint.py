"""Joint augmentation: one draw per sample scales, crops, flips and colours the image, its class map, boxes and masks alike.

Every draw is a function of its address, (seed, epoch, index), so processes and runs that go on agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lmsearch.data.view import Size, View, fitting

GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Draw:
    """What is done to one sample: where it is looked at, and the factors of its brightness, contrast and saturation."""

    view: View
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def coloured(self, image: Image.Image | None) -> Image.Image | None:
        """Return an image in mode L or RGB with other colours."""
        if image is None or self.colour == (1.0, 1.0, 1.0):
            return image
        brightness, contrast, saturation = self.colour
        values = np.asarray(image, dtype=np.float32) * brightness
        if values.ndim == 3:
            grey = (values @ GREY.astype(np.float32))[..., None]
            values = grey + (values - grey) * saturation
        middle = values.mean()
        values = middle + (values - middle) * contrast
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class JointTransform:
    """What may be drawn. `scale`: sides of the resized image over those at which it just fits the input, uniform.

    `ratio`: by how much width over height changes, log-uniform. `colour`: factors lie in 1 - colour to 1 + colour.
    """

    img_size: Size
    scale: tuple[float, float] = (0.5, 2.0)
    ratio: tuple[float, float] = (0.8, 1.25)
    flip_prob: float = 0.5
    colour: float = 0.3

    def draw(self, size: Size, rng: np.random.Generator) -> Draw:
        """Return the draw for an image of `size` (height, width); it takes as many numbers of `rng` whatever the size."""
        factor = rng.uniform(*self.scale)
        stretch = math.sqrt(math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1]))))
        places, flip, colours = rng.random(2), bool(rng.random() < self.flip_prob), rng.uniform(-1, 1, 3)
        height, width = fitting(size, self.img_size)
        resized = (max(1, round(height * factor / stretch)), max(1, round(width * factor * stretch)))
        down, across = (
            _offset(place, inside, side) for place, inside, side in zip(places.tolist(), resized, self.img_size, strict=True)
        )
        view = View(size, resized, (down, across), self.img_size, flip)
        brightness, contrast, saturation = (1 + self.colour * colours).tolist()
        return Draw(view, (brightness, contrast, saturation))

    def plain(self, size: Size) -> Draw:
        """Return what evaluation does to an image of `size`."""
        return Draw(View.whole(size, self.img_size))


def _offset(place: float, resized: int, side: int) -> int:
    """Return where the input begins on a resized side: anywhere inside, or so that the image lies anywhere in the input."""
    slack = resized - side
    return math.floor(place * (slack + 1)) if slack >= 0 else -math.floor(place * (1 - slack))
