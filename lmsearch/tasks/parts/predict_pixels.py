"""Predicting classes of pixels: label maps in the data's own values, and pictures with the classes drawn over them.

Shapes: H W image at its own size, h w network input, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lmsearch.data import DataInfo
from lmsearch.data.own_size import classes_back
from lmsearch.data.tiles import Window, classes_of, windows
from lmsearch.data.view import View
from lmsearch.engine.objectives.segmentation import logits_of
from lmsearch.engine.train import Precision
from lmsearch.errors import CheckpointError
from lmsearch.figures.overlay import class_colours

WIDE = 2**8  # values from which on a map takes two bytes per pixel


@torch.no_grad()
def outputs_of(
    model: nn.Module, info: DataInfo, image: Image.Image, parts: Sequence[Window], precision: Precision, *, batch_size: int
) -> Iterator[tuple[Sequence[Window], list[View], Any]]:
    """Yield some windows of an image after the other, with their views and the network's outputs for them."""
    for start in range(0, len(parts), batch_size):
        some = parts[start : start + batch_size]
        views = [View.whole(window.size, info.img_size) for window in some]
        inputs = [
            view.tensor(view.pixels(window.of(image)), info.mean, info.std) for window, view in zip(some, views, strict=True)
        ]
        with precision.autocast():
            outputs = model(torch.stack(inputs).to(precision.device))
        yield some, views, outputs


def class_map(
    model: nn.Module,
    info: DataInfo,
    image: Image.Image,
    precision: Precision,
    *,
    tile: int | None = None,
    overlap: int = 0,
    batch_size: int = 1,
) -> np.ndarray:
    """Return the most probable class of every pixel (H, W) int64 of an image at its own size.

    The whole image is answered as evaluation does. With `tile`, windows of so many pixels are fitted to the network's input;
    their probabilities are brought back to their size, and added up where windows overlap. Raises CheckpointError where the
    network gives no finite numbers.
    """
    size = (image.height, image.width)
    parts = windows(size, tile=tile, overlap=overlap)
    found = logits_of_windows(outputs_of(model, info, image, parts, precision, batch_size=batch_size), precision)
    if len(parts) == 1:
        _, view, logits = next(found)
        return classes_back(view, logits).numpy()
    return classes_of(((window, torch.softmax(view.maps_back(logits), dim=0)) for window, view, logits in found), size).numpy()


def logits_of_windows(
    outputs: Iterable[tuple[Sequence[Window], list[View], Any]], precision: Precision
) -> Iterator[tuple[Window, View, Tensor]]:
    """Yield every window with its view and its logits (C, h, w); raise CheckpointError where they are not finite."""
    for some, views, answered in outputs:
        logits = logits_of(answered).float().cpu()  # (windows, C, h, w)
        if not logits.isfinite().all():
            raise CheckpointError(f"the network's outputs are not finite (precision={precision.name})")
        yield from zip(some, views, logits, strict=True)


def label_map(classes: np.ndarray, info: DataInfo) -> Image.Image:
    """Return a class map (H, W) as the data would write it: the numbers or colours of its own masks, else places of classes."""
    values = info.categories
    if values and all(isinstance(value, str) for value in values):
        colours = np.array([[int(str(value)[i : i + 2], 16) for i in (1, 3, 5)] for value in values], dtype=np.uint8)
        return Image.fromarray(colours[classes])
    numbers = np.array(own_values(info))
    wide = numbers.max(initial=0) >= WIDE
    return Image.fromarray(numbers[classes].astype(np.uint16 if wide else np.uint8))


def own_values(info: DataInfo) -> list[int]:
    """Return the number that stands for every class in a label map: the data's own, where it has numbers from 0 to 65535."""
    own = [value for value in info.categories if isinstance(value, int) and 0 <= value < WIDE**2]
    return own if own and len(own) == info.num_classes else list(range(info.num_classes))


def legend(info: DataInfo) -> dict[str, object]:
    """Return what is written beside label maps: value, name and colour of the pictures, class by class."""
    values: Sequence[object] = info.categories if any(isinstance(v, str) for v in info.categories) else own_values(info)
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in class_colours(info.num_classes).tolist()]
    rows = zip(values, info.class_names, colours, strict=True)
    return {"classes": [{"value": value, "name": name, "colour": colour} for value, name, colour in rows]}
