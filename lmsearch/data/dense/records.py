"""What is known of the images of one split before they are read: files, sizes, and their objects or mask files.

Objects of all images are kept in few arrays, which worker processes share, whatever the number of objects. Outlines are packed by
marshal, which is fast and never leaves the process.
Shapes: N images, n objects of all images.
"""

from __future__ import annotations

import hashlib
import marshal
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lmsearch.data.dense.outlines import Outline

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
SPLIT_SEED = 0  # of the images that validate; the seed of a run has no part in it


@dataclass(frozen=True)
class Thing:
    """One object: the place of its class in the class names, its box, and its outline where the data has one."""

    label: int
    box: Box
    outline: Outline | None = None
    crowd: bool = False


@dataclass(frozen=True, eq=False)
class Things:
    """The objects of N images: those of image i are the rows first[i] to first[i + 1]; outlines are packed end to end."""

    first: np.ndarray  # (N + 1,) int64
    labels: np.ndarray  # (n,) int64
    boxes: np.ndarray  # (n, 4) float64
    crowd: np.ndarray  # (n,) bool
    outlines: np.ndarray  # bytes of all outlines, uint8
    ends: np.ndarray  # (n + 1,) int64: outline k is outlines[ends[k] : ends[k + 1]], empty where there is none

    @classmethod
    def of(cls, images: Sequence[Sequence[Thing]]) -> Things:
        """Pack the objects of every image."""
        things = [thing for image in images for thing in image]
        texts = [b"" if thing.outline is None else _packed(thing.outline) for thing in things]
        return cls(
            np.cumsum([0, *map(len, images)]),
            np.array([thing.label for thing in things], dtype=np.int64),
            np.array([thing.box for thing in things], dtype=np.float64).reshape(-1, 4),
            np.array([thing.crowd for thing in things], dtype=bool),
            np.frombuffer(b"".join(texts), dtype=np.uint8),
            np.cumsum([0, *map(len, texts)]),
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_outlines(self) -> int:
        """The number of objects that have an outline."""
        return int((np.diff(self.ends) > 0).sum())

    def num_repeated(self) -> int:
        """Count the objects that an earlier one of their image equals in all that is told of them."""
        images = np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))
        told = np.column_stack([images, self.labels, self.boxes])
        _, groups, sizes = np.unique(told, axis=0, return_inverse=True, return_counts=True)
        alike = np.flatnonzero(sizes[groups.ravel()] > 1).tolist()  # outlines are looked at where boxes are alike
        return len(alike) - len({(int(images[row]), repr(self._thing(row))) for row in alike})

    def at(self, index: int) -> list[Thing]:
        """Return the objects of one image."""
        return [self._thing(row) for row in range(self.first[index], self.first[index + 1])]

    def taken(self, places: np.ndarray) -> Things:
        """Return the objects of some images (m,), in that order."""
        counts = np.diff(self.first)[places]
        rows = _ranges(self.first[:-1][places], counts)
        lengths = np.diff(self.ends)[rows]
        bounds = zip(self.ends[self.first[places]], self.ends[self.first[places + 1]], strict=True)  # bytes of every image
        texts = np.concatenate([self.outlines[start:stop] for start, stop in bounds])
        first, ends = (np.concatenate([[0], np.cumsum(sizes)]) for sizes in (counts, lengths))
        return Things(first, self.labels[rows], self.boxes[rows], self.crowd[rows], texts, ends)

    def _thing(self, row: int) -> Thing:
        text = self.outlines[self.ends[row] : self.ends[row + 1]].tobytes()
        left, top, right, bottom = self.boxes[row].tolist()
        outline = marshal.loads(text) if text else None
        return Thing(int(self.labels[row]), (left, top, right, bottom), outline, bool(self.crowd[row]))


@dataclass(frozen=True, eq=False)
class Annotated:
    """The images of a split, with `things` or with mask files. `where` names them in messages.

    `sizes` are (height, width), zeros where they are not told before an image is read. `ids` are COCO's image ids, else 1, 2, ...
    """

    where: str
    files: np.ndarray  # (N,) bytes, whole paths
    ids: np.ndarray  # (N,) int64
    sizes: np.ndarray  # (N, 2) int64
    things: Things | None = None
    masks: np.ndarray | None = field(default=None)  # (N,) bytes, whole paths

    def __len__(self) -> int:
        return len(self.files)

    @property
    def most_objects(self) -> int:
        """The number of objects of the fullest image."""
        return 0 if self.things is None else int(np.diff(self.things.first).max(initial=0))

    def path(self, index: int) -> Path:
        """Return the path of an image."""
        return Path(os.fsdecode(bytes(self.files[index])))

    def mask_path(self, index: int) -> Path:
        """Return the path of an image's mask; raise ValueError where there are objects in place of masks."""
        if self.masks is None:
            raise ValueError(f"{self.where} has objects, not masks")
        return Path(os.fsdecode(bytes(self.masks[index])))

    def paths(self) -> list[Path]:
        """Return the paths of all images."""
        return [self.path(index) for index in range(len(self))]

    def names(self) -> list[bytes]:
        """Return what tells every image from others: its path in the folder of all, and the classes and boxes of its objects."""
        paths = _inside(self.files.tolist())
        if self.things is None:
            return paths
        first, labels, boxes = self.things.first, self.things.labels, self.things.boxes
        rows = [slice(*bounds) for bounds in zip(first[:-1], first[1:], strict=True)]
        return [path + labels[own].tobytes() + boxes[own].tobytes() for path, own in zip(paths, rows, strict=True)]

    def taken(self, places: np.ndarray) -> Annotated:
        """Return some of the images (m,), in that order."""
        things = None if self.things is None else self.things.taken(places)
        masks = None if self.masks is None else self.masks[places]
        return replace(self, files=self.files[places], ids=self.ids[places], sizes=self.sizes[places], things=things, masks=masks)


def _packed(outline: Any) -> bytes:
    return marshal.dumps(outline)


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return starts[0], starts[0] + 1, ... (counts[0] of them), then those of the next start, and so on."""
    before = np.cumsum(counts) - counts
    places: np.ndarray = np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
    return places


def packed(paths: Sequence[str | os.PathLike[str]]) -> np.ndarray:
    """Return paths as one array of bytes."""
    return np.array([os.fsencode(path) for path in paths])


def set_aside(part: Annotated, fraction: float) -> tuple[Annotated, Annotated, str]:
    """Split into (rest, set aside), neither empty, and what tells the latter from any other images: a matter of their names."""
    names = _told_apart(part)
    draws = [hashlib.sha256(f"{SPLIT_SEED}/".encode() + name).digest() for name in names]
    order = np.array(sorted(range(len(part)), key=draws.__getitem__), dtype=np.int64)
    count = min(max(round(len(part) * fraction), 1), len(part) - 1)
    digest = hashlib.sha256(b"\n".join(sorted(names[place] for place in order[:count]))).hexdigest()[:16]
    return part.taken(np.sort(order[count:])), part.taken(np.sort(order[:count])), digest


def _told_apart(part: Annotated) -> list[bytes]:
    """Return the names of the files or, where some are called alike in several folders, their paths in the folder of all."""
    names = [os.path.basename(path) for path in part.files.tolist()]
    return names if len(set(names)) == len(names) else _inside(part.files.tolist())


def _inside(paths: list[Any]) -> list[bytes]:
    """Return paths, in bytes, as seen from the folder of all."""
    shared = len(os.path.commonprefix(paths).rpartition(os.fsencode(os.sep))[0])
    return [path[shared:] for path in paths]
