"""YOLO folders: data.yaml with the splits and class names, and a text file of labels beside each image.

A line is a class and a box (centre, width, height) or a polygon (x, y, ...), in shares of the sides. Where data.yaml
has a kpt_shape, key points follow the box and are not read.
The labels of a/images/b.jpg are a/labels/b.txt; an image without such a file shows nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmsearch.data.dense.boxes import box_fault, outline_fault
from lmsearch.data.dense.faults import Faults, say_repeated
from lmsearch.data.dense.folders import check_paired, yolo_file
from lmsearch.data.dense.looked import once
from lmsearch.data.dense.records import Annotated, Thing, Things, packed
from lmsearch.data.layout import SPLITS
from lmsearch.data.listing import find_images
from lmsearch.data.reading import image_size
from lmsearch.errors import DataError, short
from lmsearch.paths import shown
from lmsearch.reading import read_text, read_yaml
from lmsearch.words import first_of

log = logging.getLogger(__name__)
Size = tuple[int, int]
IMAGES, LABELS = "images", "labels"
LARGEST = 1e6  # of any number in a line
OF_BOX = 5  # numbers of a line with a box; a polygon has an odd number from 7 on
EXPECTED = "expected a class and a box (4 numbers) or a polygon (at least 3 points)"


def read_yolo_splits(
    root: Path, *, on_error: str, names: Sequence[str] | None, only: Sequence[str] | None = None
) -> tuple[dict[str, Annotated], tuple[str, ...]]:
    """Return the images of every split with their objects, and the class names in the order of labels.

    `names` are the classes of training, in their order (None: those of data.yaml). Where they are known, `only` some splits may
    be asked for: where one of them is there, no others are read.
    """
    path = yolo_file(root)
    if path is None:
        raise DataError(f"{root}: no data.yaml")
    content = read_yaml(path, error=DataError)
    if not isinstance(content, Mapping):
        raise DataError(f"{path}: holds {short(content)}; expected train, val and names")
    own = names_of(content, path)
    known = own if names is None else tuple(names)
    if surplus := [name for name in own if name not in known]:
        raise DataError(f"{path}: {len(surplus)} classes are unknown to training: {first_of(surplus, 5)}")
    labels = [known.index(name) for name in own]
    of_points = numbers_of_points(content, path)
    splits = {}
    for split in splits_to_read(content, path, None if names is None else only):
        files = once(images_of(content[split], path, base=base_of(content, path), split=split), f"{path}: {split}")
        if files:
            splits[split] = read_split(f"{path}: {split}", files, labels, on_error=on_error, of_points=of_points)
    if not splits:
        raise DataError(f"{path}: names no images; expected train and val with folders of images")
    if names is None and not any(0 in part.things.labels for part in splits.values() if part.things is not None):
        text = "%s: no object is of class 0 (%s); some converters, such as SAHI 0.12.8, write COCO's ids, from 1 on"
        log.warning(text, path, shown(own[0]))
    return splits, known


def splits_to_read(content: Mapping[Any, Any], path: Path, only: Sequence[str] | None) -> list[str]:
    """Return the splits to read: those of `only` (None: all) of which something is there, else all that data.yaml names."""
    named = [split for split in SPLITS if content.get(split) is not None]
    base = base_of(content, path)
    asked = [split for split in named if split in (only or ())]
    there = [split for split in asked if is_there(content[split], path, base)]
    return [split for split in asked if split in there or split == "test"] if there else named  # a missing test split is told


def is_there(value: Any, path: Path, base: Path) -> bool:
    """Tell whether one of the paths of a split is there."""
    entries = value if isinstance(value, list) else [value]
    return any(isinstance(entry, str) and "\0" not in entry and _place(entry, path, base) is not None for entry in entries)


def names_of(content: Mapping[Any, Any], path: Path) -> tuple[str, ...]:
    """Return the class names by number; raise DataError where some are missing or given twice."""
    names = content.get("names")
    if isinstance(names, Mapping) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: names is {short(names)}; expected a list of class names, or numbers from 0 on with a name each")
    if wrong := [name for name in names if isinstance(name, bool) or not isinstance(name, str | int | float)]:
        raise DataError(f"{path}: names holds {short(wrong[0])}, which YAML does not read as text; put the name into quotes")
    listed = tuple(str(name) for name in names)
    if len(set(listed)) < len(listed):
        raise DataError(f"{path}: names gives {short(next(name for name in listed if listed.count(name) > 1))} twice")
    if content.get("nc") not in (None, len(listed)):
        raise DataError(f"{path}: nc is {short(content['nc'])}, but names lists {len(listed)} classes")
    return listed


def numbers_of_points(content: Mapping[Any, Any], path: Path) -> int:
    """Return how many numbers of key points follow a box, which is said in one line; 0 where data.yaml has no kpt_shape."""
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    if not isinstance(shape, list) or list(map(type, shape)) != [int, int] or shape[0] < 1 or shape[1] not in (2, 3):
        raise DataError(f"{path}: kpt_shape is {short(shape)}; expected [number of key points, 2 or 3]")
    log.info("%s: kpt_shape is %s: key points are not read, only the boxes before them", path, short(shape))
    return int(shape[0] * shape[1])


def base_of(content: Mapping[Any, Any], path: Path) -> Path:
    """Return the folder that the paths of the splits begin at: `path` where it is there, else that of the file."""
    given = content.get("path")
    base = path.parent / given if isinstance(given, str) else path.parent
    return base if os.path.isdir(base) else path.parent


def images_of(value: Any, path: Path, *, base: Path, split: str) -> list[Path]:
    """Return the images of a split: of a folder, of a text file that lists them, or of several; none where a test/ is missing."""
    entries = value if isinstance(value, list) else [value]
    found: list[Path] = []
    for entry in entries:
        if not isinstance(entry, str) or "\0" in entry:
            raise DataError(f"{path}: {split} is {short(value)}; expected a folder of images, or a list of folders")
        place = _place(entry, path, base)
        if place is None and split == "test":
            log.warning("%s: test is %s, which is not there; the val split tests", path, short(entry))
            continue
        if place is None:
            places = " and ".join(dict.fromkeys(map(str, (base, path.parent))))
            raise DataError(f"{path}: {split} is {short(entry)}, which is not there; looked in {places}")
        images = find_images(place).images if place.is_dir() else _listed(place, base)
        if not images:
            raise DataError(f"{path}: {split} is {short(entry)}, which holds no images")
        found += images
    return found


def _place(entry: str, path: Path, base: Path) -> Path | None:
    """Return what a path of data.yaml names; "../train/images" may stand for train/images, as Roboflow writes it."""
    places = [base / entry, path.parent / entry, base / entry.removeprefix("../"), path.parent / entry.removeprefix("../")]
    return next((place for place in places if os.path.exists(place)), None)


def _listed(listing: Path, base: Path) -> list[Path]:
    """Return the images that a text file lists, "./" from its own folder on."""
    lines = [line.strip() for line in read_text(listing, where=str(listing), error=DataError).splitlines()]
    files = [listing.parent / line if line.startswith("./") else base / line for line in lines if line and "\0" not in line]
    check_paired(str(listing), [file for file in files if not os.path.isfile(file)], what="image(s) are not there")
    return files


def label_path(image: Path) -> Path:
    """Return the path of an image's labels: the last folder images/ becomes labels/."""
    parts = list(image.with_suffix(".txt").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == IMAGES:
            parts[place] = LABELS
            break
    return Path(*parts)


def read_split(where: str, files: Sequence[Path], labels: Sequence[int], *, on_error: str, of_points: int) -> Annotated:
    """Return the images of a split with their objects; `labels` are the places of the class numbers.

    `of_points` numbers of key points follow the boxes; 0: lines are boxes or polygons.
    """
    texts = [label_path(file) for file in files]
    there = [os.path.isfile(text) for text in texts]
    if not any(there):
        raise DataError(f"{where}: none of the {len(files)} images has a label file; the first would be {shown(texts[0])}")
    faults = Faults(on_error)
    sizes = [image_size(file) for file in files]
    things = [
        read_labels(text, labels, size, faults=faults, of_points=of_points) if present else []
        for text, present, size in zip(texts, there, sizes, strict=True)
    ]
    faults.say(where)
    if not any(things):
        raise DataError(f"{where}: all {len(files)} images are empty; nothing could be learned or measured")
    if missing := there.count(False):
        log.info("%s: %d of %d images have no label file and count as images of nothing", where, missing, len(files))
    held = Things.of(things)
    say_repeated(where, held)
    return Annotated(where, packed(files), np.arange(1, len(files) + 1), np.array(sizes, dtype=np.int64), held)


def read_labels(path: Path, labels: Sequence[int], size: Size, *, faults: Faults, of_points: int = 0) -> list[Thing]:
    """Return the objects of a label file for an image of `size` (height, width)."""
    things = []
    lines = read_text(path, where=shown(path), error=DataError).splitlines()
    for number, line in enumerate(lines, start=1):
        where = f"{shown(path)}: line {number}"
        if not line.strip():
            continue
        values = _numbers(line.split(), where)
        if of_points and len(values) not in (OF_BOX, OF_BOX + of_points):
            told = f"a class and a box ({OF_BOX} numbers), or these and {of_points} of key points (kpt_shape in data.yaml)"
            raise DataError(f"{where} has {len(values)} numbers; expected {told}")
        if not of_points and (len(values) < OF_BOX or len(values) % 2 == 0):
            raise DataError(f"{where} has {len(values)} numbers; {EXPECTED}")
        if values[0] not in range(len(labels)):
            raise DataError(
                f"{where} has class {values[0]:g}, which is not among the {len(labels)} of data.yaml (0 is the first)"
            )
        thing = _thing(labels[int(values[0])], values[1:OF_BOX] if of_points else values[1:], size)
        if wrong := box_fault(thing.box, size) or outline_fault(thing.outline, size):
            faults.add(f"{where} {wrong}")
        else:
            things.append(thing)
    return things


def _numbers(words: Sequence[str], where: str) -> list[float]:
    """Return the numbers of a line."""
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise DataError(f"{where} is {short(' '.join(words))}; {EXPECTED}") from error
    if wrong := [word for word, value in zip(words, values, strict=True) if not abs(value) <= LARGEST]:  # nan, too
        raise DataError(f"{where} holds {short(wrong[0])}, which is no class and no share of a side; {EXPECTED}")
    return values


def _thing(label: int, values: Sequence[float], size: Size) -> Thing:
    """Return the object of a line in pixels."""
    height, width = size
    if len(values) == OF_BOX - 1:
        x, y, wide, high = values
        return Thing(label, ((x - wide / 2) * width, (y - high / 2) * height, (x + wide / 2) * width, (y + high / 2) * height))
    points = np.array(values).reshape(-1, 2) * (width, height)
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return Thing(label, (left, top, right, bottom), [points.reshape(-1).tolist()])
