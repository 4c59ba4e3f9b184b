"""Finding image files, and class folders that agree between training and evaluation; what is left out is said."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmsearch.data.reading import readable_endings
from lmsearch.errors import DataError
from lmsearch.paths import shown
from lmsearch.words import first_of

log = logging.getLogger(__name__)
LITTER = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx")  # what systems leave behind, beside hidden files
MOST_LINES = 5
MOST_NAMES = 8
COMMON = (".jpg", ".png", ".webp", ".tif", ".bmp", ".gif")


@dataclass
class Found:
    """The image files of a folder, sorted, and how many files of each other ending it holds."""

    images: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def accepted() -> str:
    """Return the accepted endings in a few words."""
    return f"{', '.join(COMMON)} and {len(readable_endings()) - len(COMMON)} more endings that Pillow reads"


def find_images(folder: Path) -> Found:
    """Return what is under `folder`, in sub-folders too; hidden files and system litter do not count. Links are followed once."""
    endings, found, seen = readable_endings(), Found(), set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{shown(error.filename)}: this folder cannot be read ({error.strerror})") from error

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        if (real := os.path.realpath(parent)) in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_litter(name))
        base = Path(parent)
        for name in sorted(files):  # so that little is left to be sorted as paths, which takes longer
            ending = os.path.splitext(name)[1].lower()
            if _is_litter(name):
                continue
            if ending in endings:
                found.images.append(base / name)
            else:
                found.left_out[ending] += 1
    found.images.sort()
    return found


def inside(folder: Path, paths: Iterable[Path]) -> list[bytes]:
    """Return what `relative_to(folder)` gives for paths that all lie in it, quickly: ImageNet has more than a million."""
    start = 0 if folder == Path() else len(os.path.join(os.fspath(folder), ""))
    return [os.fsencode(os.fspath(path)[start:]) for path in paths]


def say_unread(folder: Path, left_out: Counter[str]) -> None:
    """Log one line with the files of `folder` left out, per ending, where there are some."""
    if left_out:
        log.warning("%s: left out, since Pillow reads no such files here: %s", shown(folder), endings_of(left_out))


def say_left_out(folder: Path, parts: Mapping[str, Found]) -> None:
    """Log one line with the files of `folder` left out, per ending, and one for each class that loses most of its files."""
    totals = Counter[str]()
    for part in parts.values():
        totals.update(part.left_out)
    say_unread(folder, totals)
    losers = [name for name, part in parts.items() if part.left_out.total() > len(part.images)]
    for name in losers[:MOST_LINES]:
        kept, lost = len(parts[name].images), parts[name].left_out
        text = "%s: class %r keeps only %d of %d files (left out: %s); convert them to .png or .jpg"
        log.warning(text, shown(folder), name, kept, kept + lost.total(), endings_of(lost))
    if len(losers) > MOST_LINES:
        log.warning("%s: so do %d more", shown(folder), len(losers) - MOST_LINES)


def endings_of(left_out: Counter[str]) -> str:
    """Return "60 .heic, 3 .txt", the most frequent ones first."""
    ordered = sorted(left_out.items(), key=lambda entry: (-entry[1], entry[0] == "", entry[0]))
    counts = [f"{number} {shown(ending) or 'without ending'}" for ending, number in ordered[:MOST_LINES]]
    more = len(left_out) - MOST_LINES
    return ", ".join([*counts, f"files of {more} more endings"] if more > 0 else counts)


def list_classes(folder: Path, *, known: Sequence[str] | None = None) -> dict[str, list[Path]]:
    """Return {class name: image files} of the sub-folders of `folder`, sorted; raise DataError if any of it is missing.

    `known` are the classes of training, in their order: the files go to them by name. One that is lacking is said and left
    empty; a class beyond them is refused.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected <root>/train/<class>/*.jpg and <root>/val/<class>/*.jpg")
    entries = [entry for entry in os.scandir(folder) if not _is_litter(entry.name)]
    names = sorted(entry.name for entry in entries if entry.is_dir())
    if not names:
        raise DataError(f"{folder}: holds no class folders; expected {folder.name}/<class>/*.jpg")
    if known is not None:
        check_known(folder, names, known)
    if loose := sum(os.path.splitext(entry.name)[1].lower() in readable_endings() for entry in entries if entry.is_file()):
        log.warning("%s: %d image(s) lie outside the class folders and are left out", shown(folder), loose)
    found = {name: find_images(folder / name) for name in names}
    say_left_out(folder, found)
    empty = [name for name, part in found.items() if not part.images]
    if empty and (known is None or len(empty) == len(names)):
        raise DataError(f"{folder / empty[0]}: holds no images; accepted: {accepted()}")
    classes = {name: found[name].images if name in found else [] for name in (names if known is None else known)}
    if lacking := [name for name, images in classes.items() if not images]:
        text = "%s: has no images of %d of the %d classes (%s); the others keep their labels"
        log.warning(text, shown(folder), len(lacking), len(classes), some(lacking))
    return classes


def check_known(folder: Path, names: Sequence[str], known: Sequence[str]) -> None:
    """Raise DataError where class folders are not among the `known` classes."""
    if surplus := [name for name in names if name not in set(known)]:
        raise DataError(
            f"{folder}: {len(surplus)} class folder(s) are unknown to training: {some(surplus)}; its classes are {some(known)}"
        )


def some(names: Sequence[str]) -> str:
    """Return the first names, quoted, and how many more there are."""
    return first_of([repr(name) for name in names], MOST_NAMES)


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER
