"""Outlines of objects as data sets write them, and the pixels inside: polygons and run lengths (COCO's RLE).

A pixel is inside a polygon where its centre is, by the even-odd rule; several polygons of one object add up. Run lengths go
down the columns, from the left, and begin with the pixels outside.
Shapes: H W image, n objects, P points of a polygon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MOST_BITS = 50  # of a run length in COCO's text
Outline = Sequence[Sequence[float]] | Mapping[str, Any]  # polygons (x, y, x, y, ...), or {"size": [H, W], "counts": ...}


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """Return left, top, right, bottom (n, 4) float64 of masks (n, H, W) bool; zeros where a mask is empty."""
    boxes = np.zeros((len(masks), 4))
    for box, mask in zip(boxes, masks, strict=True):
        (down,), (along,) = np.nonzero(mask.any(1)), np.nonzero(mask.any(0))
        if len(down):
            box[:] = along[0], down[0], along[-1] + 1, down[-1] + 1
    return boxes


def drawn(outline: Outline, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels inside an outline (H, W) bool."""
    if isinstance(outline, Mapping):
        return from_runs(read_counts(outline["counts"]), size)
    mask = np.zeros(size, dtype=bool)
    for points in outline:
        mask |= fill_polygon(np.asarray(points, dtype=np.float64).reshape(-1, 2), size)
    return mask


def fill_polygon(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels (H, W) bool whose centres are inside a polygon (P, 2) of x and y, which may cross or touch itself.

    An edge, looked at from its upper end so that it is the same to and fro, flips all pixels to its right in the rows it crosses.
    """
    height, width = size
    others = np.roll(points, -1, axis=0)
    falls = (points[:, 1] <= others[:, 1])[:, None]
    (x0, y0), (x1, y1) = np.where(falls, points, others).T, np.where(falls, others, points).T
    top, bottom = (np.ceil(y - 0.5).clip(0, height).astype(int) for y in (y0, y1))
    edge = np.repeat(np.arange(len(points)), bottom - top)  # of every crossing of an edge with a row of centres
    rows = np.arange(len(edge)) + (top - np.cumsum(bottom - top) + bottom - top)[edge]
    crossed = x0[edge] + (rows + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    columns = np.ceil(crossed - 0.5).clip(0, width).astype(int)
    inside = np.zeros(size, dtype=bool)
    if len(edge):
        first, left = rows.min(), columns.min()
        high, wide = rows.max() + 1 - first, columns.max() + 1 - left
        flips = np.bincount((rows - first) * wide + columns - left, minlength=high * wide).reshape(high, wide)
        part = inside[first : first + high, left : left + wide]
        part[:] = (np.cumsum(flips, axis=1) % 2 == 1)[:, : part.shape[1]]
    return inside


def from_runs(runs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the mask (H, W) bool of run lengths; raise ValueError where they are not of as many pixels."""
    height, width = size
    if len(runs) and (runs.min() < 0 or runs.sum() != height * width) or (not len(runs) and height * width):
        raise ValueError(f"run lengths of {int(runs.sum())} pixels for an image of {height}x{width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def to_runs(mask: np.ndarray) -> list[int]:
    """Return the run lengths of a mask (H, W) bool."""
    flat = mask.T.reshape(-1)
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs: list[int] = np.diff([0, *ends.tolist(), len(flat)]).tolist()
    return [0, *runs] if len(flat) and flat[0] else runs


def read_counts(counts: str | Sequence[int]) -> np.ndarray:
    """Return run lengths (n,) int64 as they are, or of COCO's compressed text; raise ValueError for any other text.

    A number is five bits per letter, lowest first, with a sign; from the third on, its difference from the one before the last.
    """
    if not isinstance(counts, str):
        return np.array(counts, dtype=np.int64)
    bits = np.frombuffer(counts.encode(), dtype=np.uint8).astype(np.int64) - 48
    if (wrong := (bits < 0) | (bits > 63)).any():
        raise ValueError(f"{counts[int(wrong.argmax())]!r} has no place in run lengths")
    last = bits & 32 == 0
    if not len(bits) or not last[-1]:
        raise ValueError("the text of run lengths is cut short")
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    shifts = 5 * (np.arange(len(bits)) - np.repeat(starts, np.diff([*starts, len(bits)])))
    if shifts.max() > MOST_BITS:
        raise ValueError("a run length is too long")
    runs = np.add.reduceat((bits & 31) << shifts, starts)
    runs -= np.where(bits[last] & 16, 1 << (shifts[last] + 5), 0)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs


def write_counts(runs: Sequence[int]) -> str:
    """Return run lengths as COCO's compressed text."""
    letters = []
    for place, run in enumerate(runs):
        value = run - (runs[place - 2] if place > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            last = value == (-1 if bits & 16 else 0)
            letters.append(chr(48 + bits + (0 if last else 32)))
            if last:
                break
    return "".join(letters)


def to_rle(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask (H, W) bool as COCO's compressed run lengths."""
    return {"size": list(mask.shape), "counts": write_counts(to_runs(mask))}


def traced(mask: np.ndarray) -> list[np.ndarray]:
    """Return the closed paths (P, 2) of x and y along the edges of a mask's pixels (H, W), corners only; holes are paths too."""
    padded = np.pad(mask, 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for dy, dx, start, end in ((-1, 0, (0, 0), (1, 0)), (0, 1, (1, 0), (1, 1)), (1, 0, (1, 1), (0, 1)), (0, -1, (0, 1), (0, 0))):
        beside = padded[1 + dy : padded.shape[0] - 1 + dy, 1 + dx : padded.shape[1] - 1 + dx]
        for y, x in np.argwhere(mask & ~beside).tolist():
            steps.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    paths = []
    while steps:
        first = here = next(iter(steps))
        path = []
        while True:
            path.append(here)
            here = steps[here].pop() if len(steps[here]) > 1 else steps.pop(here)[0]
            if here == first:
                break
        paths.append(_corners(np.array(path, dtype=np.float64)))
    return paths


def _corners(path: np.ndarray) -> np.ndarray:
    """Return the points of a closed path (P, 2) at which it turns."""
    before, after = path - np.roll(path, 1, axis=0), np.roll(path, -1, axis=0) - path
    corners: np.ndarray = path[(before != after).any(1)]
    return corners


def joined_paths(paths: Sequence[np.ndarray]) -> np.ndarray:
    """Return one polygon (P, 2) with the same pixels inside as all paths by the even-odd rule: bridges of no width join them."""
    anchor = paths[0][:1]
    rings = [np.concatenate([path, path[:1], anchor]) for path in paths]
    return np.concatenate(rings)[:-1] if len(paths) > 1 else paths[0]
