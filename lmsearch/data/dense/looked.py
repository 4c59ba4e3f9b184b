"""A look at the files of every split before anything is trained: masks of other sizes than their images, of unknown values or of
nothing but void, and images that several splits have.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np

from lmsearch.data.dense.masks import MaskClasses, open_mask, values_in
from lmsearch.data.dense.palettes import colours_in, say_palettes
from lmsearch.data.dense.records import Annotated
from lmsearch.data.info import VOID
from lmsearch.data.layout import SPLITS
from lmsearch.data.reading import image_size
from lmsearch.errors import DataError
from lmsearch.paths import shown

log = logging.getLogger(__name__)
Size = tuple[int, int]
MOST_LOOKED_AT = 500  # images of a split, evenly spaced; what is wrong with others is told when they are read
SKIP = "data.on_error=skip leaves such files out and counts them"


def look_through(parts: Iterable[Annotated], masks: MaskClasses | None) -> None:
    """Raise DataError, naming the file, where an image of these splits cannot have the mask or the objects that it has.

    Of images, headers are read; of masks, all values. Palettes of masks that differ are logged.
    """
    held: list[tuple[Path, dict[int, int]]] = []
    try:
        for part in parts:
            for index in np.unique(np.linspace(0, len(part) - 1, min(len(part), MOST_LOOKED_AT)).round().astype(int)).tolist():
                size = image_size(part.path(index))
                check_size(part, index, size)
                if masks is not None:
                    path = part.mask_path(index)
                    mask = open_mask(path, colour=masks.colour)
                    values = masks.read(path, mask)
                    check_mask(path, values, size)
                    if not masks.colour:
                        numbers = [masks.values[place] for place in values_in(values) if place != VOID]
                        held.append((path, colours_in(mask, numbers)))
    except DataError as error:
        raise DataError(f"{error}; {SKIP}") from error
    say_palettes(held)


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


def check_labelled(part: Annotated, masks: MaskClasses | None) -> None:
    """Raise DataError where no pixel of all masks of a split has a class; masks that cannot be read have none."""
    if masks is None or any(has_class(part.mask_path(index), masks) for index in range(len(part))):
        return
    void = f" (void: {', '.join(map(str, masks.void))})" if masks.void else ""
    raise DataError(f"{part.where}: no pixel of its {len(part)} mask(s) has a class{void}; nothing could be learned or measured")


def has_class(path: Path, masks: MaskClasses) -> bool:
    """Tell whether a pixel of a mask has a class; none has where the file cannot be read."""
    try:
        return bool((masks.read(path) != VOID).any())
    except DataError:
        return False


def once(files: Sequence[Path], where: str) -> list[Path]:
    """Return the files without those that were there before, and log how many are left out."""
    first: dict[str, Path] = {}
    for file, place in zip(files, places_of(files), strict=True):
        first.setdefault(place, file)
    if again := len(files) - len(first):
        log.warning("%s: %d of %d images are listed again and left out", where, again, len(files))
    return list(first.values())


def places_of(files: Sequence[Path]) -> list[str]:
    """Return where files are, the same for all paths that lead to one folder; contents are not read."""
    folder = cache(os.path.realpath)
    return [os.path.join(folder(file.parent), file.name) for file in files]


def say_shared(root: Path, splits: Mapping[str, Annotated]) -> None:
    """Log how many images are in several splits, or several times in one: what is measured on them is flattered."""
    places = {split: places_of(splits[split].paths()) for split in SPLITS if split in splits}
    held = {split: set(files) for split, files in places.items()}
    for split, files in places.items():
        if again := len(files) - len(held[split]):
            log.warning(
                "%s: %d of %d images are listed again, each time with objects of its own", splits[split].where, again, len(files)
            )
    told = [
        f"{count} of {len(held[later])} images of {later} are in {first} too"
        for first, later in combinations(held, 2)
        if (count := len(held[first] & held[later]))
    ]
    if told:
        log.warning("%s: %s, which flatters what is measured on them", root, ", ".join(told))
