"""Objects of a batch: padded, taken apart, joined again and moved, with and without masks."""

from __future__ import annotations

import pytest
import torch

from lmsearch.data.instances import NOTHING, Instances


def objects(*counts: int, masks: bool = True) -> Instances:
    """Return images with so many objects each, on inputs of 4 x 5 pixels; object m of image b has the class 10 b + m."""
    most = max(counts)
    classes = torch.full((len(counts), most), NOTHING)
    for image, count in enumerate(counts):
        classes[image, :count] = 10 * image + torch.arange(count)
    boxes = classes.clamp(min=0)[..., None].expand(-1, -1, 4).float().clone()
    return Instances(boxes, classes, classes == 10, (classes >= 0)[..., None, None].expand(-1, -1, 4, 5) if masks else None)


@pytest.mark.parametrize("masks", [True, False])
def test_joined_batches_are_padded_to_the_largest(masks: bool) -> None:
    joined = Instances.joined([objects(1, 0, masks=masks), objects(3, masks=masks)])
    assert len(joined) == 3 and joined.boxes.shape == (3, 3, 4)
    assert joined.classes.tolist() == [[0, -1, -1], [-1, -1, -1], [0, 1, 2]]
    assert joined.present.sum(1).tolist() == [1, 0, 3]
    assert (joined.masks is not None) is masks
    assert joined.masks is None or joined.masks.flatten(2).any(2).equal(joined.present)


def test_images_are_taken_by_place() -> None:
    taken = objects(2, 0, 1)[torch.tensor([2, 0])]
    assert taken.classes.tolist() == [[20, -1], [0, 1]] and taken.masks is not None and taken.masks.shape == (2, 2, 4, 5)


def test_the_objects_of_one_image_have_no_padding() -> None:
    one = objects(2, 1).of_image(1)
    assert one.classes.tolist() == [[10]] and one.crowd.tolist() == [[True]] and one.boxes.shape == (1, 1, 4)
    assert objects(2, 0).of_image(1).classes.shape == (1, 0)


def test_objects_move_with_all_their_tensors() -> None:
    moved = objects(1, 2).to("meta", non_blocking=True)
    assert moved.device.type == moved.boxes.device.type == moved.crowd.device.type == "meta"
    assert moved.masks is not None and moved.masks.device.type == "meta"
    assert objects(1, masks=False).to("cpu").masks is None


def test_objects_with_and_without_masks_are_not_joined() -> None:
    with pytest.raises(ValueError, match="cannot be in one batch"):
        Instances.joined([objects(1), objects(1, masks=False)])
