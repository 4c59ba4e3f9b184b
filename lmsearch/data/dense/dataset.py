"""Images with a class per pixel or with objects, as batches: read, augmented jointly, fitted to the network's input.

Shapes: B batch, C image channels, h w input (img_size).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lmsearch.data.batch import Batch
from lmsearch.data.broken import readable_samples
from lmsearch.data.dense.labels import Labels
from lmsearch.data.dense.looked import SKIP, check_size
from lmsearch.data.dense.records import Annotated, Thing
from lmsearch.data.info import DataInfo
from lmsearch.data.joint import Draw, JointTransform
from lmsearch.data.keyed import keyed_rng
from lmsearch.data.own_size import OwnSize
from lmsearch.data.reading import image_size, read_image
from lmsearch.errors import DataError

Seen = tuple[Tensor, Any]  # the input (C, h, w), and its labels as Labels.seen gives them


@dataclass(frozen=True)
class Sample:
    """What is known of one image without its pixels: `size` is its own (height, width), `id` its COCO id, else from 1 on."""

    path: str
    size: tuple[int, int]
    id: int
    things: tuple[Thing, ...] = ()


@dataclass(frozen=True, eq=False)
class DenseDataset:
    """Images with labels. With on_error "skip", a training batch repeats readable images of its own for broken ones.

    Evaluation sees whole images, resized in proportion to fit the input; broken ones are left out.
    """

    part: Annotated
    info: DataInfo
    labelled: Labels[Any]
    transform: JointTransform
    on_error: str = "raise"
    in_memory: bool = False

    @property
    def labels(self) -> np.ndarray | None:
        """None: an image has not one class."""
        return None

    @property
    def label_bytes(self) -> int:
        """The most bytes that the labels of one image take in a batch."""
        return self.labelled.most_bytes(self.part, self.info.img_size)

    def path(self, index: int) -> str:
        """Return the path of sample `index`."""
        return str(self.part.path(index))

    def names(self) -> list[bytes]:
        """Return the path of every sample and, where the data has objects, their classes and boxes."""
        return self.part.names()

    def epoch_size(self, global_batch: int) -> int:
        """Return the number of images, whatever the batch."""
        return len(self.part)

    def sample(self, index: int) -> Sample:
        """Return what is known of an image, with its objects where the data has any."""
        path = self.part.path(index)
        height, width = self.part.sizes[index].tolist()
        size = (height, width) if height else image_size(path)
        things = () if self.part.things is None else tuple(self.part.things.at(index))
        return Sample(str(path), size, int(self.part.ids[index]), things)

    def train_batch(self, indices: np.ndarray, *, seed: int, epoch: int) -> Batch:
        """Return the samples `indices` (B,), augmented by the address (seed, epoch, index)."""
        skipped: list[str] = []

        def augmented(index: int, key: int) -> Seen | None:
            read = self._read(index, skipped)
            if read is None:
                return None
            image, labels = read
            draw = self.transform.draw((image.height, image.width), keyed_rng("joint", seed, epoch, key))
            return self._seen(image, labels, draw, training=True)

        seen, _ = readable_samples(indices, augmented)
        return self._batch(seen, indices[: len(seen)], skipped)

    def eval_batch(self, indices: np.ndarray) -> Batch:
        """Return the samples `indices` (B,) as evaluation sees them, and what they are at their own sizes."""
        skipped: list[str] = []
        seen, read, own = [], [], []
        for index in indices.tolist():
            if (sample := self._read(index, skipped)) is not None:
                image, labels = sample
                draw = self.transform.plain((image.height, image.width))
                seen.append(self._seen(image, labels, draw, training=False))
                read.append(index)
                own.append(OwnSize(draw.view, self.labelled.truth(labels, self.part, index)))
        return self._batch(seen, np.array(read, dtype=np.int64), skipped)._replace(own=tuple(own))

    def _read(self, index: int, skipped: list[str]) -> tuple[Image.Image, Any] | None:
        """Return the image and its labels, or None after noting in `skipped` what is wrong with them."""
        path = self.part.path(index)
        try:
            image = read_image(path, self.info.in_chans)
            size = (image.height, image.width)
            check_size(self.part, index, size)
            return image, self.labelled.read(self.part, index, size)
        except DataError as error:
            if self.on_error == "raise":
                raise DataError(f"{error}; {SKIP}") from error
            skipped.append(str(error))
            return None

    def _seen(self, image: Image.Image, labels: Any, draw: Draw, *, training: bool) -> Seen:
        pixels = draw.coloured(draw.view.pixels(image))
        tensor = draw.view.tensor(pixels, self.info.mean, self.info.std)
        return tensor, self.labelled.seen(labels, draw.view, training=training)

    def _batch(self, seen: list[Seen], indices: np.ndarray, skipped: list[str]) -> Batch:
        size = self.info.img_size
        images = torch.stack([image for image, _ in seen]) if seen else torch.empty(0, self.info.in_chans, *size)
        targets = self.labelled.batch([labels for _, labels in seen], size)
        return Batch(images, targets, torch.from_numpy(indices), tuple(skipped))
