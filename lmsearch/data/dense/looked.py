"""A look at the files of every split before anything is trained: masks of other sizes than their images, or of unknown values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lmsearch.data.dense.masks import MaskClasses
from lmsearch.data.dense.records import Annotated
from lmsearch.data.reading import image_size
from lmsearch.errors import DataError
from lmsearch.paths import shown

Size = tuple[int, int]
MOST_LOOKED_AT = 500  # images of a split, evenly spaced; what is wrong with others is told when they are read
SKIP = "data.on_error=skip leaves such files out and counts them"


def look_through(parts: Iterable[Annotated], masks: MaskClasses | None) -> None:
    """Raise DataError, naming the file, where an image of these splits cannot have the mask or the objects that it has.

    Of images, headers are read; of masks, all values.
    """
    try:
        for part in parts:
            for index in np.unique(np.linspace(0, len(part) - 1, min(len(part), MOST_LOOKED_AT)).round().astype(int)).tolist():
                size = image_size(part.path(index))
                check_size(part, index, size)
                if masks is not None:
                    check_mask(part.mask_path(index), masks.read(part.mask_path(index)), size)
    except DataError as error:
        raise DataError(f"{error}; {SKIP}") from error


def check_size(part: Annotated, index: int, size: Size) -> None:
    """Raise DataError where an image of `size` (height, width) is told to be of another one."""
    told = part.sizes[index].tolist()
    if any(told) and tuple(told) != size:
        sizes = f"{size[0]}x{size[1]} pixels (upright), its annotations are for {told[0]}x{told[1]}"
        raise DataError(f"{shown(part.path(index))}: the image has {sizes}")


def check_mask(path: Path, values: np.ndarray, size: Size) -> None:
    """Raise DataError where a mask is of another size than its image."""
    if values.shape != size:
        sizes = f"{values.shape[0]}x{values.shape[1]} pixels, the image {size[0]}x{size[1]}"
        raise DataError(f"{shown(path)}: the mask has {sizes} (upright); both must be of one size")
