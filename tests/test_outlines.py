"""Polygons and run lengths as pixels, and back; pycocotools reads and writes the same."""

from __future__ import annotations

import numpy as np
import pytest

from lmsearch.data.dense.outlines import (
    boxes_of,
    drawn,
    fill_polygon,
    from_runs,
    joined_paths,
    read_counts,
    to_rle,
    to_runs,
    traced,
    write_counts,
)

SIZE = (13, 17)
MASKS = [np.random.default_rng(seed).random(SIZE) < share for seed, share in enumerate((0.02, 0.3, 0.5, 0.9, 0.98))]
MASKS += [np.zeros(SIZE, dtype=bool), np.ones(SIZE, dtype=bool)]


@pytest.mark.parametrize("mask", MASKS)
def test_run_lengths_are_those_of_pycocotools(mask: np.ndarray) -> None:
    tools = pytest.importorskip("pycocotools.mask")
    theirs = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert to_rle(mask) == {"size": list(theirs["size"]), "counts": theirs["counts"].decode()}
    assert np.array_equal(drawn(to_rle(mask), SIZE), mask)


@pytest.mark.parametrize("mask", MASKS)
def test_masks_survive_as_numbers_and_as_polygons(mask: np.ndarray) -> None:
    assert np.array_equal(drawn({"size": list(SIZE), "counts": to_runs(mask)}, SIZE), mask)
    if mask.any():
        assert np.array_equal(fill_polygon(joined_paths(traced(mask)), SIZE), mask)


def test_long_and_falling_run_lengths_survive_as_text() -> None:
    runs = [0, 1, 70_000, 3, 2, 900_000, 1]
    assert read_counts(write_counts(runs)).tolist() == runs


@pytest.mark.parametrize(
    "points",
    [[0.2, 0.2, 6.1, 0.2, 6.1, 4.2, 0.2, 4.2], [1.31, 1.22, 9.74, 3.35, 4.13, 11.64], [-5.1, -5.2, 30.3, 2.4, 8.1, 40.7]],
)
def test_pixels_inside_a_polygon_are_those_whose_centres_are(points: list[float]) -> None:
    path = pytest.importorskip("matplotlib.path").Path(np.array(points).reshape(-1, 2))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = path.contains_points(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(SIZE)
    assert np.array_equal(fill_polygon(np.array(points, dtype=float).reshape(-1, 2), SIZE), inside)


def test_polygons_of_one_object_add_up() -> None:
    outline = [[0, 0, 2, 0, 2, 2, 0, 2], [1, 1, 4, 1, 4, 3, 1, 3]]
    assert drawn(outline, SIZE).sum() == 4 + 6 - 1


def test_boxes_enclose_masks_and_are_empty_without_pixels() -> None:
    masks = np.zeros((2, 6, 8), dtype=bool)
    masks[0, 2:4, 1:5] = True
    assert boxes_of(masks).tolist() == [[1, 2, 5, 4], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([5, 5], "run lengths of 10 pixels for an image of 13x17"),
        ([], "run lengths of 0 pixels"),
        ([-1, 222], "run lengths of 221 pixels"),
        ("0~", "'~' has|has no place in run lengths"),
        ("P", "cut short"),
        ("\x00", "has no place in run lengths"),
    ],
)
def test_damaged_run_lengths_are_refused(counts: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_runs(read_counts(counts), SIZE)
