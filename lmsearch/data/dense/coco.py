"""COCO files: JSON with images, annotations (boxes, polygons, run lengths, crowds) and categories, one file for each split.

Ids of categories may have gaps and may differ between splits: classes go by name. A class has its place in the order of ids.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from lmsearch.data.dense.boxes import box_fault, outline_fault
from lmsearch.data.dense.faults import Faults, say_repeated
from lmsearch.data.dense.folders import ROBOFLOW, asked_for, check_paired, coco_files, split_named_in
from lmsearch.data.dense.records import Annotated, Thing, Things, packed
from lmsearch.data.layout import SPLITS, folders_of_splits
from lmsearch.data.reading import image_size
from lmsearch.errors import DataError, short
from lmsearch.words import first_of

log = logging.getLogger(__name__)
Size = tuple[int, int]
PARTS = ("images", "annotations", "categories")
COMMON = "instances"  # how the names of files of objects begin, beside those of captions and the like
LARGEST = 2**53  # of a number that is an id
FEW_CROWDS = 0.1  # share of all objects; COCO itself has about 0.01


@dataclass(frozen=True)
class Listed:
    """A category: its id and name."""

    id: int
    name: str


def read_coco_splits(
    root: Path, *, on_error: str, names: Sequence[str] | None, only: Sequence[str] | None = None
) -> tuple[dict[str, Annotated], tuple[Listed, ...]]:
    """Return the images of every split with their objects, and the categories in the order of labels.

    `names` are the classes of training, in their order (None: those of the training file, by id). Where they are known, `only`
    some splits may be asked for: where one of them is there, no others are read.
    """
    files = asked_for(split_files(root), None if names is None else only)
    own: tuple[Listed, ...] = ()
    splits = {}
    for split, path in files.items():  # the training file first; one at a time, since the content of one may take gigabytes
        content = read_content(path)
        listed = categories_of(content, path)
        own = own or ordered(listed, names)
        known = [category.name for category in own]
        if surplus := [category.name for category in listed if category.name not in known]:
            told = f"{len(surplus)} categories are unknown to training: {first_of(surplus, 5)}"
            raise DataError(f"{path}: {told}; its classes are {first_of(known, 8)}")
        labels = {category.id: known.index(category.name) for category in listed}
        splits[split] = read_split(path, content, labels, folder=image_folder(root, path, split, content), on_error=on_error)
        del content  # before the next one is read
    return splits, own


def ordered(listed: tuple[Listed, ...], names: Sequence[str] | None) -> tuple[Listed, ...]:
    """Return the categories in the order of `names` (None: as they are), with id 0 where one is not listed."""
    by_name = {category.name: category for category in listed}
    return listed if names is None else tuple(by_name.get(name, Listed(0, name)) for name in names)


def split_files(root: Path) -> dict[str, Path]:
    """Return the file of every split; one that names none is the training file. Raises DataError where several could be meant.

    Where files are called instances..., others beside them are of captions and the like.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    listed = coco_files(root)
    for path in [path for path in listed if path.name.startswith(COMMON)] or listed:
        split = split_named_in(path.parent.name if path.name == ROBOFLOW else path.stem)
        found[split or SPLITS["train"][0]].append(path)
    chosen = {}
    for split in (split for split in SPLITS if split in found):
        if len(found[split]) > 1:
            names = first_of([str(path.relative_to(root)) for path in found[split]], 4)
            raise DataError(f"{root}: several COCO files could be the {split} split: {names}; leave one of them there")
        chosen[split] = found[split][0]
    return chosen


def image_folder(root: Path, path: Path, split: str, content: Mapping[str, Any]) -> Path:
    """Return the folder that a file's images lie in: the first known place that has the first of them."""
    stem = path.stem.removeprefix(f"{COMMON}_")
    tops = (root, root / "images")
    own = [*(top / stem for top in tops), *(place for top in tops for kind, place in folders_of_splits(top) if kind == split)]
    places = [path.parent, *own, root / "images", root, *(place / "images" for place in own)]
    first = content["images"][0]["file_name"]
    for place in places:
        if os.path.isfile(place / first):
            return place
    there = [str(place.relative_to(root)) for place in places if place.is_dir()]
    raise DataError(
        f"{path}: its first image {short(first)} is in none of the folders looked at: {', '.join(dict.fromkeys(there))}"
    )


def read_content(path: Path, *, parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """Return the content of a COCO file; raise DataError where it is cut short, or these parts are not there."""
    try:
        content = json.loads(path.read_bytes(), parse_constant=_no_number)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path}: not valid JSON at {place} ({error.msg}); is the file complete?") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise DataError(f"{path}: lists inside each other too deep; this is no COCO file") from error
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds {short(content)}; expected an object with {', '.join(parts)}")
    for part in parts:
        entries = content.get(part)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(f"{path}: {part} is {short(entries)}; expected a list of objects")
        if not entries:
            beside = f": all {len(content['images'])} images are empty" if part == PARTS[1] else ""
            raise DataError(f"{path}: {part} is an empty list{beside}; nothing could be learned or measured")
    _check_images(path, content["images"])
    return content


def _check_images(path: Path, images: Sequence[Mapping[str, Any]]) -> None:
    """Raise DataError where images lack a name or an id of their own."""
    for entry in images:
        if not _is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str) or "\0" in entry["file_name"]:
            raise DataError(f"{path}: an image is {short(entry)}; expected a whole number as id, and a file_name")
        sides = [entry.get("height"), entry.get("width")]
        if sides != [None, None] and not all(map(_is_side, sides)):
            raise DataError(f"{path}: image {entry['id']} has height and width {short(sides)}; expected whole numbers")
    check_once(path, "the image id", [entry["id"] for entry in images])


def check_once(path: Path, what: str, values: Sequence[Any]) -> None:
    """Raise DataError where one of the values is given twice."""
    if twice := [value for value, number in Counter(values).items() if number > 1]:
        raise DataError(f"{path}: {what} is given twice: {first_of([short(value) for value in twice], 3)}")


def categories_of(content: Mapping[str, Any], path: Path) -> tuple[Listed, ...]:
    """Return the categories by id; raise DataError where one lacks an id or name of its own."""
    for entry in content["categories"]:
        if not _is_id(entry.get("id")) or not isinstance(entry.get("name"), str):
            raise DataError(f"{path}: a category is {short(entry)}; expected a whole number as id, and a name")
    check_once(path, "the category id", [entry["id"] for entry in content["categories"]])
    check_once(path, "the category", [entry["name"] for entry in content["categories"]])
    return tuple(
        Listed(entry["id"], entry["name"]) for entry in sorted(content["categories"], key=lambda entry: int(entry["id"]))
    )


def read_split(path: Path, content: Mapping[str, Any], labels: Mapping[int, int], *, folder: Path, on_error: str) -> Annotated:
    """Return the images of one file; `labels` are the places of its category ids."""
    images = content["images"]
    files = [folder / entry["file_name"] for entry in images]
    missing = [Path(entry["file_name"]) for entry, file in zip(images, files, strict=True) if not os.path.isfile(file)]
    check_paired(str(path), missing, what=f"image(s) are not in {folder}")
    sizes = [_size(entry, file) for entry, file in zip(images, files, strict=True)]
    rows = {entry["id"]: row for row, entry in enumerate(images)}
    faults, ignored = Faults(on_error), 0
    things: list[list[Thing]] = [[] for _ in images]
    told = f"{path}: annotation"
    for entry in content["annotations"]:
        number = entry.get("id")
        where = f"{told} {number if _is_id(number) else short(number)}"
        row = rows.get(entry["image_id"]) if _is_id(entry.get("image_id")) else None
        if row is None:
            raise DataError(f"{where} is of image {short(entry.get('image_id'))}, which is not listed")
        if not _is_id(entry.get("category_id")) or entry["category_id"] not in labels:
            accepted = first_of([str(id) for id in labels], 8)
            raise DataError(f"{where} has category_id {short(entry.get('category_id'))}, which is not listed; listed: {accepted}")
        thing = read_thing(entry, labels[entry["category_id"]], sizes[row], where=where, faults=faults)
        if thing is not None:
            things[row].append(thing)
            ignored += not thing.crowd and bool(entry.get("ignore"))
    faults.say(str(path))
    say_passed_over(path, [thing.crowd for image in things for thing in image], ignored)
    ids = np.array([entry["id"] for entry in images], dtype=np.int64)
    held = Things.of(things)
    say_repeated(str(path), held)
    return Annotated(str(path), packed(files), ids, np.array(sizes, dtype=np.int64), held)


def say_passed_over(path: Path, crowds: Sequence[bool], ignored: int) -> None:
    """Log how many objects are crowds, a warning where that is a large share, and how many others are marked "ignore"."""
    told, many = [], sum(crowds) > FEW_CROWDS * len(crowds)
    if any(crowds):
        told.append(f"{sum(crowds)} of {len(crowds)} objects are crowds (iscrowd 1), neither learnt nor to be found as objects")
    if many:
        told.append("some tools write iscrowd 1 for every object with a hole or of several parts: set it to 0 for single objects")
    if ignored:
        told.append(f'{ignored} objects have "ignore", which COCO\'s AP does not heed: they are learnt and to be found')
    if told:
        log.log(logging.WARNING if many else logging.INFO, "%s: %s", path, "; ".join(told))


def _size(entry: Mapping[str, Any], file: Path) -> Size:
    """Return the height and width that an image is said to have, else those of the file."""
    return image_size(file) if entry.get("height") is None else (entry["height"], entry["width"])


def read_thing(entry: Mapping[str, Any], label: int, size: Size, *, where: str, faults: Faults) -> Thing | None:
    """Return an object, or None where a fault of it was noted; raise DataError for what is no annotation."""
    box, crowd = entry.get("bbox"), entry.get("iscrowd", 0)
    if not isinstance(box, list) or len(box) != 4 or not _are_numbers(box):
        raise DataError(f"{where} has the bbox {short(box)}; expected [left, top, width, height]")
    if crowd not in (0, 1):
        raise DataError(f"{where} has iscrowd {short(crowd)}; expected 0 or 1")
    outline = _outline(entry.get("segmentation"), size, where=where)
    left, top, width, height = map(float, box)
    corners = (left, top, left + width, top + height)
    if wrong := box_fault(corners, size) or outline_fault(outline, size):
        faults.add(f"{where} {wrong}")
        return None
    return Thing(label, corners, outline, bool(crowd))


def _outline(value: Any, size: Size, *, where: str) -> Any:
    """Return polygons or run lengths, None where there are none; raise DataError for what is neither."""
    if value is None or value == []:
        return None
    if isinstance(value, list):
        for points in value:
            if not isinstance(points, list) or len(points) % 2 or not _are_numbers(points):
                raise DataError(f"{where} has the polygon {short(points)}; expected a list x, y, x, y, ... of numbers")
        return value
    counts = value.get("counts") if isinstance(value, dict) else None
    if not isinstance(counts, str) and not (isinstance(counts, list) and all(_is_id(run) for run in counts)):
        raise DataError(f"{where} has the segmentation {short(value)}; expected polygons, or run lengths with size and counts")
    if value.get("size") != list(size):
        sides = f"an image of {size[0]}x{size[1]}"
        raise DataError(f"{where} has run lengths of size {short(value.get('size'))} for {sides} (height, width)")
    return {"size": list(size), "counts": counts}


def _is_id(value: Any) -> bool:
    return type(value) is int and abs(value) < LARGEST


def _is_side(value: Any) -> bool:
    return _is_id(value) and value > 0


def _are_numbers(values: Sequence[Any]) -> bool:
    """Tell whether all are numbers within bounds, quickly: a data set has millions of them."""
    return set(map(type, values)) <= {int, float} and max(values, default=0) < LARGEST and min(values, default=0) > -LARGEST


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number that JSON has")
