"""One draw moves image, class map, masks and boxes alike, and the way back ends where it began."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from lmsearch.data.dense.outlines import boxes_of
from lmsearch.data.info import VOID
from lmsearch.data.joint import JointTransform
from lmsearch.data.keyed import keyed_rng
from lmsearch.data.view import View, fitting

SIZE = (40, 60)
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def scene() -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """Return an image whose squares are white, its class map and their masks (2, H, W)."""
    masks = np.zeros((2, *SIZE), dtype=bool)
    masks[0, 5:20, 10:30] = masks[1, 22:38, 40:58] = True
    values = masks[0] + 2 * masks[1]
    return Image.fromarray((255 * (values > 0)).astype(np.uint8)).convert("RGB"), values.astype(np.uint8), masks


@pytest.mark.parametrize("number", range(12))
def test_a_draw_moves_image_class_map_masks_and_boxes_alike(number: int) -> None:
    image, values, masks = scene()
    transform = JointTransform((32, 24), scale=(0.5, 2.5), colour=0.0)
    view = transform.draw(SIZE, keyed_rng("test", number)).view
    pixels = view.tensor(view.pixels(image), **PLAIN)
    seen, objects = view.class_map(values), view.masks(masks)
    assert pixels.shape == (3, 32, 24) and seen.shape == (32, 24) and objects.shape == (2, 32, 24)
    inside = seen != VOID
    assert np.array_equal(seen[inside] > 0, objects.any(0)[inside]) and not objects[:, ~inside].any()
    white = pixels[0].numpy() > 0.5
    assert (white == objects.any(0)).mean() > 0.97  # bicubic edges may lie half a pixel elsewhere
    boxes, drawn = view.boxes(boxes_of(masks)), boxes_of(objects)
    kept = objects.any((1, 2))
    assert np.abs(boxes[kept] - drawn[kept]).max(initial=0) <= 1.0
    assert (pixels.numpy()[:, ~inside] == 0).all()


@pytest.mark.parametrize("number", range(6))
def test_masks_are_the_nearest_pixels_whatever_is_seen_of_them(number: int) -> None:
    rng = np.random.default_rng(number)
    masks = np.zeros((6, *SIZE), dtype=bool)
    masks[1], masks[2, 0, 0], masks[3, -1, -1] = True, True, True
    masks[4], masks[5, 8:20, 30:33] = rng.random(SIZE) < 0.01, rng.random((12, 3)) < 0.5
    view = JointTransform((32, 24), scale=(0.5, 2.5), colour=0.0).draw(SIZE, keyed_rng("test", number)).view
    expected = np.zeros((6, 32, 24), dtype=bool)
    for place, mask in enumerate(masks):
        expected[place] = view.class_map(mask.astype(np.uint8)) == 1
    assert np.array_equal(view.masks(masks), expected) and view.masks(masks[:0]).shape == (0, 32, 24)


def test_a_flip_mirrors_everything() -> None:
    image, values, masks = scene()
    plain = View(SIZE, SIZE, (0, 0), SIZE)
    flipped = View(SIZE, SIZE, (0, 0), SIZE, flip=True)
    assert np.array_equal(flipped.class_map(values), values[:, ::-1]) and np.array_equal(plain.class_map(values), values)
    assert flipped.boxes(boxes_of(masks)).tolist() == boxes_of(masks[..., ::-1]).tolist()
    pixels = [view.tensor(view.pixels(image), **PLAIN) for view in (plain, flipped)]
    assert torch.equal(pixels[1], pixels[0].flip(2))
    boxes = torch.from_numpy(boxes_of(masks))
    assert torch.allclose(flipped.boxes_back(torch.from_numpy(flipped.boxes(boxes.numpy()))), boxes)


@pytest.mark.parametrize("size", [(40, 60), (61, 33), (7, 200)])
def test_the_whole_image_is_seen_and_the_way_back_ends_where_it_began(size: tuple[int, int]) -> None:
    view = View.whole(size, (32, 32))
    assert max(view.resized) == 32 and view.offset == (0, 0) and view.resized == fitting(size, (32, 32))
    box = np.array([[1.0, 2.0, size[1] - 1.0, size[0] - 2.0]])
    assert torch.allclose(view.boxes_back(torch.from_numpy(view.boxes(box))), torch.from_numpy(box))
    ramp = torch.linspace(0, 1, size[1]).expand(1, *size)
    seen = torch.zeros(1, 32, 32)
    seen[:, view.filled[0], view.filled[1]] = torch.nn.functional.interpolate(ramp[None], view.resized, mode="area")[0]
    back = view.maps_back(seen)
    assert back.shape == (1, *size) and (back - ramp).abs().max() < 0.5


def test_a_part_of_an_image_has_no_way_back() -> None:
    with pytest.raises(ValueError, match="shows a part of the image only"):
        View(SIZE, (80, 120), (3, 3), (32, 32)).maps_back(torch.zeros(1, 32, 32))


def test_an_input_that_shows_nothing_is_empty() -> None:
    view = View((4, 4), (2, 2), (8, 8), (6, 6))
    image = Image.new("RGB", (4, 4), "white")
    assert view.pixels(image) is None and view.tensor(None, **PLAIN).abs().sum() == 0
    assert (view.class_map(np.zeros((4, 4), dtype=np.uint8)) == VOID).all()


def test_draws_are_of_their_address_alone() -> None:
    transform = JointTransform((32, 32))
    first, second = (transform.draw(SIZE, keyed_rng("joint", 0, 1, 5)) for _ in range(2))
    assert first == second != transform.draw(SIZE, keyed_rng("joint", 0, 2, 5))


def test_colours_change_but_for_factors_of_one() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8))
    plain, drawn = JointTransform((8, 8)).plain((8, 8)), JointTransform((8, 8)).draw((8, 8), keyed_rng("colour"))
    assert plain.coloured(image) is image
    other = drawn.coloured(image)
    assert other is not None and other.size == image.size and other.tobytes() != image.tobytes()
    grey = drawn.coloured(image.convert("L"))
    assert grey is not None and grey.mode == "L"
