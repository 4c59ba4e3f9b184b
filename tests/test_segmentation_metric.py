"""The mean IoU of a set: from one confusion matrix, naive counts as its twin, and one value per image whose mean it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lmsearch.data.info import VOID
from lmsearch.data.instances import Instances
from lmsearch.engine.objectives import Objective, Scores, objective_for
from lmsearch.engine.objectives.segmentation import class_iou, pixel_accuracy_of

CLASSES, ABSENT = 6, 4  # a class in neither truth nor answers
EMPTY = 3  # an image without a labelled pixel


def maps(images: int = 9) -> tuple[Tensor, Tensor]:
    """Logits (B, C, H, W) that are right more often than not, and classes of pixels (B, H, W), some void."""
    g = torch.Generator().manual_seed(5)
    targets = torch.randint(0, CLASSES - 1, (images, 5, 7), generator=g)
    targets[targets == ABSENT] = 0
    targets[torch.rand(targets.shape, generator=g) < 0.2] = VOID
    targets[EMPTY] = VOID
    logits = torch.randn(images, CLASSES, 5, 7, generator=g)
    logits += 1.5 * F.one_hot(targets.clamp(max=CLASSES - 1), CLASSES).permute(0, 3, 1, 2)
    logits[:, ABSENT] = -9.0
    return logits, targets


def evaluated(objective: Objective, logits: Tensor, targets: Tensor, *, size: int) -> Scores:
    batches = zip(logits.split(size), targets.split(size), strict=True)
    return objective.of_set([objective.evaluation(*batch) for batch in batches])


def counted(logits: Tensor, targets: Tensor) -> dict[int, float]:
    """IoU by class, pixel by pixel."""
    seen = [(int(a), int(t)) for a, t in zip(logits.argmax(1).flatten(), targets.flatten(), strict=True) if t != VOID]
    found = {}
    for c in range(CLASSES):
        union = [pair for pair in seen if c in pair]
        if union:
            found[c] = sum(pair == (c, c) for pair in union) / len(union)
    return found


@pytest.mark.parametrize("size", [2, 9])
def test_the_mean_iou_of_a_set_is_a_naive_count_without_void_and_absent_classes(size: int) -> None:
    logits, targets = maps()
    objective = objective_for("segmentation")
    scores, expected = evaluated(objective, logits, targets, size=size), counted(logits, targets)
    assert scores.score == pytest.approx(np.mean(list(expected.values())), abs=1e-12)
    assert objective.summarise(scores.sums) == pytest.approx(scores.score, abs=1e-12)
    of_class = class_iou(scores.sums)
    assert math.isnan(of_class[ABSENT]) and {c: of_class[c].item() for c in expected} == pytest.approx(expected)
    right = (logits.argmax(1) == targets)[targets != VOID].double().mean().item()
    assert pixel_accuracy_of(scores.sums) == pytest.approx(right)


def test_values_of_images_have_the_mean_iou_as_their_mean_and_its_jackknife_spread() -> None:
    logits, targets = maps(60)
    objective = objective_for("segmentation")
    scores = evaluated(objective, logits, targets, size=7)
    assert scores.scores.mean().item() == pytest.approx(scores.score, abs=1e-12)
    rest = [torch.arange(60) != i for i in range(60)]
    left_out = np.array([evaluated(objective, logits[r], targets[r], size=60).score for r in rest])
    jackknife = math.sqrt(59 / 60 * ((left_out - left_out.mean()) ** 2).sum())
    assert objective.standard_error(scores) == pytest.approx(jackknife, rel=0.05)


def test_the_loss_of_an_image_is_the_mean_over_its_labelled_pixels_and_zero_without_any() -> None:
    logits, targets = maps()
    losses = objective_for("segmentation").losses(logits, targets)
    each = [F.cross_entropy(o[None], t[None], ignore_index=VOID).item() for o, t in zip(logits, targets, strict=True)]
    assert math.isnan(each[EMPTY]) and losses[EMPTY] == 0
    others = [i for i in range(len(each)) if i != EMPTY]
    assert losses[others].tolist() == pytest.approx([each[i] for i in others], rel=1e-5)


def test_a_set_without_labelled_pixels_scores_zero() -> None:
    logits, targets = maps()
    scores = evaluated(objective_for("segmentation"), logits, targets.fill_(VOID), size=4)
    assert scores.score == 0 and scores.scores.tolist() == [0.0] * len(targets) and scores.loss == 0


def test_answers_of_an_object_are_its_own_losses_and_its_semantic_logits() -> None:
    logits, targets = maps()

    class Answered:
        def losses(self, targets: Tensor) -> Tensor:
            return torch.full((len(targets),), 0.25)

        def semantic(self) -> Tensor:
            return logits

    found = objective_for("segmentation").evaluation(Answered(), targets)
    assert found.losses.tolist() == [0.25] * len(targets)
    assert torch.equal(found.sums, objective_for("segmentation").evaluation(logits, targets).sums)


def test_batches_carry_objects_as_they_carry_tensors() -> None:
    from lmsearch.data.batch import Batch
    from lmsearch.errors import DataError

    def batch(images: int, most: int) -> Batch:
        none = torch.zeros(images, most, dtype=torch.bool)
        objects = Instances(torch.rand(images, most, 4), torch.arange(images)[:, None].expand(images, most).clone(), none)
        return Batch(torch.zeros(images, 1, 2, 2), objects, torch.arange(images))

    joined = Batch.joined([batch(2, 1), batch(3, 4)]).to(torch.device("cpu"))
    assert joined.targets.classes.shape == (5, 4) and len(joined.take(torch.tensor([4, 0])).targets) == 2
    assert joined.take(torch.tensor([4])).targets.classes.tolist() == [[2, 2, 2, 2]]
    with pytest.raises(DataError, match="objects"):
        _ = joined.target_values
