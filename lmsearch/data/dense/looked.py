"""A look at the files of every split before anything is trained: masks of other sizes than their images, of unknown values, of
nothing but void or of one class, classes that no mask shows, and images that several splits have.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np

from lmsearch.data.dense.masks import COLOURS, NAMES, MaskClasses, looked_at, open_mask, read_values, values_in
from lmsearch.data.dense.palettes import colours_in, say_palettes
from lmsearch.data.dense.records import Annotated
from lmsearch.data.info import VOID
from lmsearch.data.layout import SPLITS
from lmsearch.data.reading import image_size
from lmsearch.errors import DataError
from lmsearch.paths import shown
from lmsearch.words import first_of

log = logging.getLogger(__name__)
Size = tuple[int, int]
MOST_LOOKED_AT = 500  # images of a split, evenly spaced; what is wrong with others is told when they are read
WHITE = 255  # of masks that show one thing and its ground
SKIP = "data.on_error=skip leaves such files out and counts them"


def some_of(part: Annotated) -> list[int]:
    """Return the images of a split that are looked at, evenly spaced where it has many."""
    places: list[int] = np.unique(np.linspace(0, len(part) - 1, min(len(part), MOST_LOOKED_AT)).round().astype(int)).tolist()
    return places


def look_through(parts: Iterable[Annotated], masks: MaskClasses | None) -> list[set[int]]:
    """Return the classes that the masks of every split show; none where there are objects.

    Raises DataError, naming the file, where an image of these splits cannot have the mask or the objects that it has. Of images,
    headers are read; of masks, all values. Palettes of masks that differ are logged.
    """
    held: list[tuple[Path, dict[int, int]]] = []
    shown_by: list[set[int]] = []
    try:
        for part in parts:
            shown_by.append(set())
            for index in some_of(part):
                size = image_size(part.path(index))
                check_size(part, index, size)
                if masks is not None:
                    path = part.mask_path(index)
                    mask = open_mask(path, colour=masks.colour)
                    values = masks.read(path, mask)
                    check_mask(path, values, size)
                    places = [place for place in values_in(values) if place != VOID]
                    shown_by[-1].update(places)
                    if not masks.colour:
                        held.append((path, colours_in(mask, [masks.values[place] for place in places])))
    except DataError as error:
        raise DataError(f"{error}; {SKIP}") from error
    say_palettes(held)
    return shown_by


def shown_classes(part: Annotated, masks: MaskClasses | None) -> set[int]:
    """Return the classes that the masks of a split show; those that cannot be read show none."""
    return set() if masks is None else set().union(*(classes_in(part.mask_path(index), masks) for index in some_of(part)))


def say_unseen_classes(part: Annotated, masks: MaskClasses | None, seen: set[int], *, trained: set[int] | None = None) -> None:
    """Log the classes that no mask looked at shows: of a split that is measured, those `trained` on; None: it trains."""
    if masks is None:
        return
    unseen = [name for place, name in enumerate(masks.names) if place not in seen and (trained is None or place in trained)]
    if unseen:
        looked = f"its {len(part)} mask(s)" if len(part) <= MOST_LOOKED_AT else f"{MOST_LOOKED_AT} of its {len(part)} masks"
        told = f"{len(unseen)} of the {len(masks.names)} classes ({first_of(unseen, 5)})"
        white = about_white(part, masks, unseen, trains=trained is None)
        log.warning("%s: no pixel of %s is of %s%s", part.where, looked, told, white)


def about_white(part: Annotated, masks: MaskClasses, unseen: Sequence[str], *, trains: bool) -> str:
    """Say so where masks hold 255, which has no class: tools save masks of one thing and its ground so, for the eye."""
    if masks.colour or WHITE not in masks.void or not any(_holds(part.mask_path(index), WHITE) for index in some_of(part)):
        return ""
    name = unseen[0] if len(unseen) == 1 else "one of them"
    told = f"; they hold {WHITE}, which has no class"
    if not trains:
        return told
    line = f"{unseen[0]},{WHITE},{WHITE},{WHITE}"
    return f"{told}: if it stands for {name}, list {line} in {COLOURS[0]}, or give data.ignore_index=-1 without {NAMES}"


def _holds(path: Path, value: int) -> bool:
    """Tell whether a mask holds a number; none does that cannot be read."""
    try:
        return value in values_in(read_values(path, colour=False))
    except DataError:
        return False


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


def check_labelled(part: Annotated, masks: MaskClasses | None, *, least: int = 1) -> None:
    """Raise DataError where all masks of a split show fewer than `least` classes; those that cannot be read show none."""
    if masks is None:
        return
    seen: set[int] = set()
    for path in looked_at(Path(part.where), [part.mask_path(index) for index in range(len(part))], "looking for classes"):
        seen |= classes_in(path, masks)
        if len(seen) >= least:
            return
    void = f" (void: {', '.join(map(str, masks.void))})" if masks.void else ""
    if not seen:
        raise DataError(
            f"{part.where}: no pixel of its {len(part)} mask(s) has a class{void}; nothing could be learned or measured"
        )
    only, unseen = masks.names[min(seen)], [name for place, name in enumerate(masks.names) if place not in seen]
    raise DataError(
        f"{part.where}: all pixels of its {len(part)} mask(s) that have a class are of {only!r}{void}; expected two classes or"
        f" more to tell apart{about_white(part, masks, unseen, trains=True)}"
    )


def classes_in(path: Path, masks: MaskClasses) -> set[int]:
    """Return the classes of the pixels of a mask, none where the file cannot be read."""
    try:
        return set(values_in(masks.read(path))) - {VOID}
    except DataError:
        return set()


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
