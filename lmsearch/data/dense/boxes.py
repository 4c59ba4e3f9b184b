"""What can be wrong with the box or the outline of an object, in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmsearch.data.dense.outlines import read_counts
from lmsearch.data.dense.records import Box

REACH = 1.0  # pixels by which a box may reach beyond its image, which rounding does
FEWEST_POINTS = 3


def box_fault(box: Box, size: tuple[int, int]) -> str:
    """Return what is wrong with a box in an image of `size` (height, width), "" for nothing."""
    left, top, right, bottom = box
    if not (right > left and bottom > top):
        return f"has a box of no area: {_told(box)}"
    height, width = size
    if left < -REACH or top < -REACH or right > width + REACH or bottom > height + REACH:
        return f"has a box that reaches outside its image of {height}x{width}: {_told(box)}"
    if not _meets(box, size):
        return f"has a box that lies outside its image of {height}x{width}: {_told(box)}"
    return ""


def outline_fault(outline: Any, size: tuple[int, int]) -> str:
    """Return what is wrong with polygons or run lengths in an image of `size` (height, width), "" for nothing."""
    if outline is None:
        return ""
    if isinstance(outline, Mapping):
        return _runs_fault(outline)
    for points in outline:
        if len(points) < 2 * FEWEST_POINTS:
            return f"has a polygon of {len(points) // 2} point(s), and a polygon has at least {FEWEST_POINTS}"
    for axis in (0, 1):
        if max(max(points[axis::2]) for points in outline) == min(min(points[axis::2]) for points in outline):
            return "has an outline of no area"
    extents = [(min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])) for points in outline]
    if not any(_meets(extent, size) for extent in extents):
        height, width = size
        return f"has an outline that lies outside its image of {height}x{width}: {_told(extents[0])}"
    return ""


def _meets(box: Box, size: tuple[int, int]) -> bool:
    """Tell whether a box has an area in common with an image, which one within REACH of it need not have."""
    left, top, right, bottom = box
    height, width = size
    return left < width and top < height and right > 0 and bottom > 0


def _runs_fault(outline: Mapping[str, Any]) -> str:
    """Return what is wrong with run lengths."""
    try:
        runs = read_counts(outline["counts"])
    except ValueError as error:
        return f"has damaged run lengths ({error})"
    height, width = outline["size"]
    if len(runs) == 0 or runs.min() < 0 or runs.sum() != height * width:
        return f"has run lengths of {int(runs.sum())} pixels, its image has {height * width}"
    return "" if runs[1::2].sum() else "has run lengths of no area"


def _told(box: Box) -> str:
    left, top, right, bottom = box
    return f"left {left:g}, top {top:g}, right {right:g}, bottom {bottom:g}"
