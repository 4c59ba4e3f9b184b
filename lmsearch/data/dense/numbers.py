"""Which ids images and classes have in COCO's results: those of a COCO file, so that its annotations fit, or counted ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from lmsearch.data.dense.coco import categories_of, check_once, read_content
from lmsearch.data.info import DataInfo
from lmsearch.data.reading import image_size
from lmsearch.errors import ConfigError, DataError
from lmsearch.paths import shown
from lmsearch.words import first_of

log = logging.getLogger(__name__)
LISTED = ("images", "categories")  # what a COCO file must have for its ids


@dataclass(frozen=True, eq=False)
class Numbers:
    """The id of every image by its path, and of every class (C,). `sizes` are (height, width) where they are told."""

    images: Mapping[Path, int]
    categories: tuple[int | str | None, ...]
    sizes: Mapping[Path, tuple[int, int]] = field(default_factory=dict)

    def check_sizes(self) -> None:
        """Raise ConfigError where images are of other sizes than the annotations are for; unreadable ones are told when read."""
        sizes = {path: _size(path) for path in self.sizes}
        other = {path: size for path, size in sizes.items() if size is not None and size != self.sizes[path]}
        if other:
            path, size = next(iter(other.items()))
            first = "{} has {}x{} pixels (upright), annotations= is for {}x{}".format(shown(path), *size, *self.sizes[path])
            raise ConfigError(
                f"{len(other)} of {len(self.sizes)} images have other sizes than annotations= tells, first: {first}"
            )


def counted(files: Sequence[Path], info: DataInfo) -> Numbers:
    """Return 1, 2, ... for the images in their order, and the data's own ids of the classes, else 1, 2, ... too."""
    categories = info.categories or tuple(range(1, info.num_classes + 1))
    return Numbers({path: number for number, path in enumerate(files, start=1)}, categories)


def of_coco(coco: Path, files: Sequence[Path], info: DataInfo) -> Numbers:
    """Return the ids that a COCO file has for images, by the ends of their paths, and for classes, by name.

    A class that it lacks gets an id that it does not use. Raises DataError for images that it does not list.
    """
    content = read_content(coco, parts=LISTED)
    _say_never_found(coco, content.get("annotations"))
    check_once(coco, "the file name", [entry["file_name"] for entry in content["images"]])
    listed = {PurePath(entry["file_name"]).parts: entry for entry in content["images"]}
    found = {path: _ending(path, listed) for path in files}
    if missing := [shown(path) for path, parts in found.items() if parts is None]:
        raise DataError(f"{coco}: lists no file_name of {len(missing)} of {len(files)} images: {first_of(missing, 3)}")
    entries = {path: listed[parts] for path, parts in found.items() if parts is not None}
    ids = {path: int(entry["id"]) for path, entry in entries.items()}
    check_once(coco, "the image", [entry["file_name"] for entry in entries.values()])
    if len(files) < len(listed):
        told = "%s: %d of its %d images are predicted; the others count as answered with nothing where all are scored"
        log.info(told, coco, len(files), len(listed))
    sizes = {path: (e["height"], e["width"]) for path, e in entries.items() if e.get("height") is not None}
    own = {category.name: category.id for category in categories_of(content, coco)}
    if lacking := [name for name in info.class_names if name not in own]:
        log.warning("%s: has no categories for %d classes of the network: %s", coco, len(lacking), first_of(lacking, 5))
    free = max(own.values(), default=0) + 1
    new = {name: free + place for place, name in enumerate(lacking)}
    return Numbers(ids, tuple((own | new)[name] for name in info.class_names), sizes)


def _say_never_found(coco: Path, annotations: object) -> None:
    """Log how many objects scorers of COCO's results never count as found: those with an id below 1, or with that of another."""
    entries = annotations if isinstance(annotations, list) else []
    ids = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    if lost := sum(isinstance(id, int) and id < 1 for id in ids):
        text = "%s: %d annotation(s) have an id below 1: pycocotools never counts 0 as found, faster-coco-eval none of them; %s"
        log.warning(text, coco, lost, "number them from 1, or its AP is lower than that of evaluate")
    whole = [id for id in ids if isinstance(id, int)]
    if again := len(whole) - len(set(whole)):
        text = "%s: %d annotation(s) have the id of another: pycocotools looks objects up by id; %s"
        log.warning(text, coco, again, "number them anew, or its AP is lower than that of evaluate")


def _size(path: Path) -> tuple[int, int] | None:
    """Return (height, width) of an upright image, None where it cannot be read."""
    try:
        return image_size(path)
    except DataError:
        return None


def _ending(path: Path, listed: Mapping[tuple[str, ...], object]) -> tuple[str, ...] | None:
    """Return the longest end of a path that is listed, None for none."""
    parts = path.absolute().parts
    return next((parts[start:] for start in range(len(parts)) if parts[start:] in listed), None)
