"""Images in class folders; layout.py says which layouts are known."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lmsearch.data.batch import Batch
from lmsearch.data.broken import readable_samples
from lmsearch.data.checks import LEAST_STD, choice, interval, number, shares, size2d, whole
from lmsearch.data.info import DataInfo, Source
from lmsearch.data.keyed import keyed_rng
from lmsearch.data.layout import Folder, Part, read_folder
from lmsearch.data.listing import inside
from lmsearch.data.randaugment import LARGEST_MAGNITUDE, SETS
from lmsearch.data.reading import read_image
from lmsearch.data.transforms import TrainTransform, eval_tensor
from lmsearch.errors import DataError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class FolderDataset:
    """Image files with labels. With on_error "skip", a training batch repeats readable images of its own for broken ones.

    Evaluation leaves broken files out. Paths are one array of bytes, which worker processes share.
    """

    root: str
    files: np.ndarray  # (N,) bytes, relative to root
    labels: np.ndarray  # (N,) int64
    info: DataInfo
    transform: TrainTransform
    on_error: str = "raise"
    in_memory: bool = False

    def path(self, index: int) -> str:
        """Return the path of sample `index`."""
        return os.path.join(self.root, os.fsdecode(bytes(self.files[index])))

    def names(self) -> list[bytes]:
        """Return the path of every sample under `root`."""
        found: list[bytes] = self.files.tolist()
        return found

    def epoch_size(self, global_batch: int) -> int:
        """Return the number of files, whatever the batch."""
        return len(self.files)

    def train_batch(self, indices: np.ndarray, *, seed: int, epoch: int) -> Batch:
        """Return the samples `indices` (B,), augmented by the address (seed, epoch, index)."""
        skipped: list[str] = []

        def augmented(index: int, key: int) -> torch.Tensor | None:
            image = self._read(index, skipped)
            return None if image is None else self.transform(image, keyed_rng("augment", seed, epoch, key))

        tensors, sources = readable_samples(indices, augmented)
        return self._batch(tensors, self.labels[sources], indices[: len(tensors)], skipped)

    def eval_batch(self, indices: np.ndarray) -> Batch:
        """Return the samples `indices` (B,) as evaluation sees them."""
        skipped: list[str] = []
        tensors, read = [], []
        for index in indices.tolist():
            image = self._read(index, skipped)
            if image is not None:
                tensors.append(eval_tensor(image, self.info))
                read.append(index)
        numbers = np.array(read, dtype=np.int64)
        return self._batch(tensors, self.labels[numbers], numbers, skipped)

    def _read(self, index: int, skipped: list[str]) -> Image.Image | None:
        """Return the image, or None after noting in `skipped` what is wrong with it."""
        try:
            return read_image(self.path(index), self.info.in_chans)
        except DataError as error:
            if self.on_error == "raise":
                raise DataError(f"{error}; data.on_error=skip leaves such files out and counts them") from error
            skipped.append(str(error))
            return None

    def _batch(self, tensors: list[torch.Tensor], labels: np.ndarray, indices: np.ndarray, skipped: list[str]) -> Batch:
        images = torch.stack(tensors) if tensors else torch.empty(0, self.info.in_chans, *self.info.img_size)
        return Batch(images, torch.from_numpy(labels), torch.from_numpy(indices), tuple(skipped))


def build_imagefolder(
    *,
    root: str | os.PathLike[str] | Folder,
    val_fraction: float | None = None,
    val_digest: str | None = None,
    img_size: int | Sequence[int] = 224,
    in_chans: int = 3,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    flip_prob: float = 0.5,
    randaugment_ops: int = 2,
    randaugment_magnitude: float = 9.0,
    randaugment_std: float = 0.5,
    randaugment_set: str = "increasing",
    erasing_prob: float = 0.25,
    crop_pct: float = 0.875,
    on_error: str = "raise",
    class_names: Sequence[str] | None = None,
) -> Source:
    """Return the images under `root` (or of a folder that was read); the val set is also the test set where there is none.

    `val_fraction` and `val_digest` are those of `read_folder`. `img_size` is one side or (height, width); `in_chans` 1 reads
    grey, 3 RGB; `mean` and `std` are of images scaled to [0, 1] (None: ImageNet's for RGB, 0.5 for grey). `scale` and `ratio`
    bound the random crop's share of the area and its aspect. `on_error`: a broken image ends the run ("raise") or is skipped,
    counted and logged ("skip"). `class_names` are the classes and their order (None: the folders of train/, sorted); val/ and
    test/ may lack some, and none may have others.
    """
    if in_chans not in (1, 3):
        raise DataError(f"in_chans is {in_chans!r}; image files are read with 1 (grey) or 3 (RGB) channels")
    folder = (
        root
        if isinstance(root, Folder)
        else read_folder(Path(root), val_fraction=val_fraction, val_digest=val_digest, class_names=class_names)
    )
    names = list(folder.train.classes)
    info = DataInfo(
        "imagefolder",
        len(names),
        tuple(names),
        size2d("img_size", img_size),
        in_chans,
        *normalisation(mean, std, in_chans),
        crop_pct=number("crop_pct", crop_pct, least=0.01, most=1),
    )
    transform = TrainTransform(
        info,
        scale=interval("scale", scale, least=1e-6, most=1),
        ratio=interval("ratio", ratio, least=1e-3),
        flip_prob=number("flip_prob", flip_prob, least=0, most=1),
        randaugment_ops=whole("randaugment_ops", randaugment_ops),
        randaugment_magnitude=number("randaugment_magnitude", randaugment_magnitude, least=0, most=LARGEST_MAGNITUDE),
        randaugment_std=number("randaugment_std", randaugment_std, least=0),
        erasing_prob=number("erasing_prob", erasing_prob, least=0, most=1),
        randaugment_set=choice("randaugment_set", randaugment_set, tuple(SETS)),
    )
    choice("on_error", on_error, ("raise", "skip"))
    train, val = (_dataset(part, info, transform, on_error) for part in (folder.train, folder.val))
    return Source(info, train, val, val if folder.test is folder.val else _dataset(folder.test, info, transform, on_error))


def normalisation(
    mean: float | Sequence[float] | None, std: float | Sequence[float] | None, in_chans: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of every channel of images scaled to [0, 1], where not given ImageNet's for RGB, 0.5 for grey."""
    grey = in_chans == 1
    return (
        shares("mean", ((0.5,) if grey else IMAGENET_MEAN) if mean is None else mean, count=in_chans),
        shares("std", ((0.5,) if grey else IMAGENET_STD) if std is None else std, count=in_chans, least=LEAST_STD),
    )


def _dataset(part: Part, info: DataInfo, transform: TrainTransform, on_error: str) -> FolderDataset:
    files = inside(part.folder, (path for paths in part.classes.values() for path in paths))
    labels = [label for label, paths in enumerate(part.classes.values()) for _ in paths]
    return FolderDataset(str(part.folder), np.array(files), np.array(labels, dtype=np.int64), info, transform, on_error)
