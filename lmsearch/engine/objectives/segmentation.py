"""A class per pixel: cross-entropy over the labelled pixels, and what one confusion matrix of a whole set tells.

Shapes: B images of a batch, n of a set, C classes, H W pixels, those of an image's own size where it is known. Confusion
matrices are (C, C): rows are true classes, columns those answered; void pixels are in none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lmsearch.data.info import VOID
from lmsearch.data.own_size import OwnSize, classes_back
from lmsearch.engine.objectives.metrics import METRICS
from lmsearch.engine.objectives.objective import Objective, OfSet, Outputs


def segmentation(label_smoothing: float = 0.0, *, metric: str = "miou", class_weights: Tensor | None = None) -> Objective:
    """Cross-entropy over logits (B, C, H, W) with classes of pixels (B, H, W), of which VOID has none, judged by the mean IoU.

    The loss of an image is the mean over its labelled pixels, 0 where it has none. An object with `losses` of its own, and the
    logits in `semantic`, is taken at its word. There are no classes of whole images to weigh.
    """

    def losses(outputs: Outputs, targets: Tensor) -> Tensor:
        if not isinstance(outputs, Tensor):
            own: Tensor = outputs.losses(targets)
            return own
        each = F.cross_entropy(
            outputs.float(), targets, ignore_index=VOID, reduction="none", label_smoothing=label_smoothing
        )  # (B, H, W)
        return each.flatten(1).sum(1) / labelled(targets).clamp(min=1)

    def pixel_accuracy(outputs: Outputs, targets: Tensor) -> Tensor:
        right = (answers(outputs) == targets).flatten(1).sum(1)
        return right.float() / labelled(targets).clamp(min=1)

    def measured(outputs: Outputs, targets: Tensor, own: Sequence[OwnSize] | None) -> tuple[Tensor, None]:
        return of_images(*class_maps(outputs, targets, own)), None  # once, for all that is told of them

    def statistics(confusion: Tensor, _: None) -> Tensor:
        return confusion.sum(0)

    def parts(confusion: Tensor, _: None) -> Tensor:
        return overlaps(confusion)

    return Objective(
        METRICS[metric], losses, pixel_accuracy, lambda _: None, statistics, mean_iou, parts=parts, of_parts=linearised,
        measured=measured,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """The most probable class of every pixel, a map (H, W) for each image, of `num_classes`."""

    maps: Sequence[Tensor]
    num_classes: int


def class_maps(outputs: Outputs, targets: Tensor, own: Sequence[OwnSize] | None) -> tuple[ClassMaps, Sequence[Tensor]]:
    """Return the classes that are answered and the true ones (H, W) of every image, where they are known at its own size.

    Logits are scaled back to that, bilinear, as in mmseg.
    """
    logits = logits_of(outputs)
    if own is None:
        return ClassMaps(list(logits.argmax(1)), logits.shape[1]), list(targets)
    maps = [classes_back(one.view, mine) for one, mine in zip(own, logits, strict=True)]
    return ClassMaps(maps, logits.shape[1]), [torch.from_numpy(one.truth).to(logits.device, torch.int64) for one in own]


def logits_of(outputs: Outputs) -> Tensor:
    """Return the logits (B, C, H, W) of a network's outputs."""
    found: Tensor = outputs if isinstance(outputs, Tensor) else outputs.semantic()
    return found


def answers(outputs: Outputs) -> Tensor:
    """Return the most probable class of every pixel (B, H, W)."""
    return logits_of(outputs).argmax(1)


def labelled(targets: Tensor) -> Tensor:
    """Return how many pixels of every image (B,) have a class; targets (B, H, W)."""
    return (targets != VOID).flatten(1).sum(1)


def of_images(found: ClassMaps, truth: Sequence[Tensor]) -> Tensor:
    """Return the confusion matrix of every image (B, C, C) int64."""
    return torch.stack([confusion_of(answer, true, found.num_classes) for answer, true in zip(found.maps, truth, strict=True)])


def confusion_of(answers: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Return the confusion matrix (C, C) int64 of one image; answers and true classes (H, W)."""
    count = num_classes**2
    cell = (truth * num_classes + answers).where(truth != VOID, count)  # void pixels have a cell of their own, which is left out
    return cell.flatten().bincount(minlength=count + 1)[:-1].view(num_classes, num_classes)


def overlaps(confusion: Tensor) -> Tensor:
    """Return pixels in the intersection and in the union of truth and answers, by class: (..., 2, C) of (..., C, C)."""
    inside = confusion.diagonal(dim1=-2, dim2=-1)
    return torch.stack([inside, confusion.sum(-1) + confusion.sum(-2) - inside], dim=-2)


def class_iou(confusion: Tensor) -> Tensor:
    """Return intersection over union of every class (C,) float64; nan where a class is in neither truth nor answers."""
    inside, union = overlaps(confusion).double().unbind()
    return inside / union


def mean_iou(confusion: Tensor) -> float:
    """Return the mean IoU over the classes that are in truth or answers (0 to 1); 0 where no pixel is labelled."""
    return class_iou(confusion).nanmean().nan_to_num(0.0).item()


def pixel_accuracy_of(confusion: Tensor) -> float:
    """Return the share of labelled pixels that are answered right (0 to 1); 0 where there are none."""
    return (confusion.diagonal().sum().double() / confusion.sum().clamp(min=1)).item()


def linearised(parts: Tensor) -> OfSet:
    """Return the mean IoU of a set and one value per image (n,) float64, whose mean it is; parts (n, 2, C) of `overlaps`.

    With I_ic and U_ic pixels in intersection and union of class c in image i, I_c and U_c their sums and C' classes present:
    v_i = mIoU + n / C' sum_c (I_ic - I_c / U_c U_ic) / U_c. It is what the image adds to first order (the delta method for a
    ratio of sums), so the spread of v gives the standard error of the mean IoU, and of a difference of two nets.
    """
    each = parts.double()  # (n, 2, C)
    inside, union = each.sum(0)
    present = union > 0
    if not present.any():
        return OfSet(0.0, each.new_zeros(len(each)))
    iou, union = inside[present] / union[present], union[present]
    excess = (each[:, 0, present] - iou * each[:, 1, present]) / union  # (n, C')
    value = iou.mean()
    return OfSet(value.item(), value + len(each) * excess.mean(1))
