"""Mask2Former (arXiv 2112.01527) from Transformers on our maps: objects with masks, or classes of pixels (extra `dense`).

Shapes: B images of h x w pixels, Q queries, C classes, K layers of the decoder; masks at the finest map's H x W cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

from lmsearch.errors import ModelError
from lmsearch.models.dense.handed import (
    NAME,
    group_norms,
    handing,
    heads_for,
    image_like,
    maps_config,
    own_dtype,
    wide,
    width_for,
)
from lmsearch.models.dense.outputs import MOST, VOID, DenseOutputs, Detections, Objects, boxes_of, learnable, seeded, surest
from lmsearch.models.dense.pyramid import Level, resized
from lmsearch.models.drop_path import drawn

POINTS = 12544  # of a mask that its loss looks at, where it has more cells
DRAW = 2**20  # number under which the head draws for a sample, beyond those of layers
SEEDS = 2**24  # as many as float32 tells apart


class Config(Mask2FormerConfig):
    """Transformers' own, which knows our maps."""

    backbones_supported = [NAME]


class Mask2Former(nn.Module):
    """Queries that answer one class and one mask each. Sizes follow the maps: the paper's from 128 channels on, fewer below."""

    def __init__(self, levels: Sequence[Level], num_classes: int) -> None:
        super().__init__()
        width = width_for(levels)
        large = width >= 128
        config = Config(
            backbone_config=maps_config(levels), num_labels=num_classes, feature_size=width, mask_feature_size=width,
            hidden_dim=width, num_attention_heads=heads_for(width), encoder_feedforward_dim=4 * width, dim_feedforward=8 * width,
            encoder_layers=6 if large else 2, decoder_layers=10 if large else 4, num_queries=100 if large else 50,
        )  # fmt: skip
        self.model: Any = Mask2FormerForUniversalSegmentation(config)
        group_norms(self.model)

    def forward(self, maps: Sequence[Tensor], padded: tuple[int, int], size: tuple[int, int]) -> QueryMasks:
        """Maps of images of `padded` pixels to answers for their upper left `size` (height, width), in float32 or wider."""
        numbers = drawn(DRAW) if self.training else None
        seeds = maps[0].new_zeros(len(maps[0])) if numbers is None else numbers * SEEDS
        with torch.autocast(maps[0].device.type, enabled=False), handing(self.model, own_dtype(self.model, maps)):
            found = self.model(image_like(maps, padded), output_auxiliary_logits=True)
        layers = [*found.auxiliary_logits, {name: found[name] for name in ("class_queries_logits", "masks_queries_logits")}]
        classes, masks = (wide(torch.stack([layer[name] for layer in layers])) for name in layers[-1])
        return QueryMasks(padded, size, classes, masks, seeds, self.model)


@dataclass(frozen=True)
class QueryMasks(DenseOutputs):
    """Logits of classes (K, B, Q, C + 1), the last of no object, and of masks (K, B, Q, H, W); the last layer is what counts.

    The loss looks at random points: those of an image follow from `seeds` (B,), drawn for the sample where it is trained on.
    """

    classes: Tensor
    masks: Tensor
    seeds: Tensor
    model: Any  # Transformers', which knows the loss

    def losses(self, targets: Objects | Tensor) -> Tensor:
        """Return one loss per image (B,), in float32. targets: objects with masks, or a class per pixel (B, h, w) with VOID.

        An image in which no pixel has a class has a loss of 0.
        """
        return torch.stack([self._loss(image, targets) for image in range(self.classes.shape[1])])

    def _loss(self, image: int, targets: Objects | Tensor) -> Tensor:
        labels, masks = of_pixels(targets[image]) if isinstance(targets, Tensor) else of_objects(targets, image)
        if isinstance(targets, Tensor) and not len(labels):
            return (0.0 * self.classes[:, image]).sum() + (0.0 * self.masks[:, image]).sum()
        height, width = (more - side for more, side in zip(self.padded, self.size, strict=True))
        truth = {"mask_labels": [nn.functional.pad(masks.float(), (0, width, 0, height))], "class_labels": [labels]}
        one = slice(image, image + 1)
        layers = [
            {"masks_queries_logits": masks[one].float(), "class_queries_logits": classes[one].float()}
            for masks, classes in zip(self.masks, self.classes, strict=True)
        ]
        criterion = self.model.criterion
        criterion.empty_weight = criterion.empty_weight.float()  # it follows the weights to other dtypes, the rest does not
        criterion.num_points = criterion.matcher.num_points = min(POINTS, self.masks.shape[-2:].numel())

        def loss() -> Tensor:
            found = self.model.get_loss_dict(**layers[-1], **truth, auxiliary_predictions=layers[:-1])
            return self.model.get_loss(found)

        return seeded(int(self.seeds[image]), self.masks.device, loss)

    def semantic(self) -> Tensor:
        """Return how much speaks for every class of every pixel (B, C, h, w)."""
        classes = self.classes[-1].softmax(-1)[..., :-1]  # (B, Q, C)
        return self._shown(torch.einsum("bqc,bqhw->bchw", classes, self.masks[-1].sigmoid()))

    def detections(self, *, most: int = MOST) -> list[Detections]:
        """Return objects with the boxes around their masks; the surer of its pixels a mask is, the higher its score."""
        found = []
        for logits, masks in zip(self.classes[-1].softmax(-1)[..., :-1], self.masks[-1], strict=True):
            scores, queries, classes = surest(logits, most)
            shown = self._shown(masks[None])[0][queries]  # (n, h, w) logits
            inside = shown > 0
            sure = (shown.sigmoid() * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)
            order = (scores * sure).argsort(descending=True, stable=True)
            order = order[inside.flatten(1).any(1)[order]]
            found.append(Detections((scores * sure)[order], classes[order], boxes_of(inside[order]), inside[order]))
        return found

    def _shown(self, x: Tensor) -> Tensor:
        """Return maps (B, C, H, W) at the size of the images."""
        return resized(x, self.padded)[..., : self.size[0], : self.size[1]]


def of_pixels(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the classes (n,) that the pixels (h, w) of an image have, and the mask of each (n, h, w)."""
    classes = targets[targets != VOID].unique()
    return classes, targets == classes[:, None, None]


def of_objects(targets: Objects, image: int) -> tuple[Tensor, Tensor]:
    """Return the classes (n,) and masks (n, h, w) of the objects of an image that are learnt from."""
    if targets.masks is None:
        raise ModelError("head=mask2former learns from masks, and these objects have boxes only; take head=deformable_detr")
    learnt = learnable(targets, image) & targets.masks[image].flatten(1).any(1)
    return targets.classes[image][learnt], targets.masks[image][learnt]
