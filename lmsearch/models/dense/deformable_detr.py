"""Deformable DETR (arXiv 2010.04159) from Transformers on our maps: objects with boxes. Needs the extra `dense`.

Shapes: B images of h x w pixels, Q queries, C classes, K layers of the decoder. Transformers' boxes are centre x, centre y,
width, height as shares of the padded image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection
from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrMultiscaleDeformableAttention

from lmsearch.errors import ModelError
from lmsearch.models.dense.handed import group_norms, handing, heads_for, image_like, maps_config, own_dtype, wide, width_for
from lmsearch.models.dense.outputs import MOST, DenseOutputs, Detections, Objects, learnable, surest
from lmsearch.models.dense.pyramid import Level

EPS = 1e-5  # shares are kept so far from 0 and 1 before their logits are taken
PRIOR = 0.01  # probability of every class before anything is learnt
CLASSES = 2  # weight of classes in matching and loss, as in the paper's code; Transformers has 1
SMALL = -2.0  # logit of a box's width and height then: 0.12 of the image


class DeformableDetr(nn.Module):
    """Queries that answer one class and one box each. Sizes follow the maps: the paper's from 128 channels on, fewer below.

    Every layer of the decoder has an output layer of its own. Nothing is dropped at random.
    """

    def __init__(self, levels: Sequence[Level], num_classes: int) -> None:
        super().__init__()
        width = width_for(levels)
        large = width >= 128
        config = DeformableDetrConfig(
            use_timm_backbone=False, backbone_config=maps_config(levels), num_labels=num_classes, d_model=width,
            num_feature_levels=len(levels), encoder_attention_heads=heads_for(width), decoder_attention_heads=heads_for(width),
            class_cost=CLASSES,
            encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width, encoder_layers=6 if large else 2,
            decoder_layers=6 if large else 3, num_queries=300 if large else 100, dropout=0.0, auxiliary_loss=True,
            tie_word_embeddings=False,
        )  # fmt: skip
        self.model: Any = DeformableDetrForObjectDetection(config)
        group_norms(self.model)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Start as the paper's code does: queries far from each other, every class improbable, every box at its query and small.

        Transformers draws all weights with a deviation of 0.02, for which all queries ask for the centre of the image.
        """
        for part in (self.model.model.encoder, self.model.model.decoder):
            for weight in part.parameters():
                if weight.dim() > 1:
                    nn.init.xavier_uniform_(weight)
            for module in part.modules():
                if isinstance(module, DeformableDetrMultiscaleDeformableAttention):
                    self.model._init_weights(module)
        nn.init.normal_(self.model.model.query_position_embeddings.weight)
        for classes, boxes in zip(self.model.class_embed, self.model.bbox_embed, strict=True):
            classes.bias.fill_(-math.log((1 - PRIOR) / PRIOR))
            boxes.layers[-1].weight.zero_()
            boxes.layers[-1].bias.copy_(boxes.layers[-1].bias.new_tensor([0.0, 0.0, SMALL, SMALL]))

    def forward(self, maps: Sequence[Tensor], padded: tuple[int, int], size: tuple[int, int]) -> QueryBoxes:
        """Maps of images of `padded` pixels to answers for their upper left `size` (height, width), in float32 or wider."""
        with torch.autocast(maps[0].device.type, enabled=False), handing(self.model, own_dtype(self.model, maps)):
            found = self.model.model(image_like(maps, padded))
            hidden = found.intermediate_hidden_states.unbind(1)  # K times (B, Q, D)
            classes = wide(torch.stack([out(x) for out, x in zip(self.model.class_embed, hidden, strict=True)]))
            moved = wide(torch.stack([out(x) for out, x in zip(self.model.bbox_embed, hidden, strict=True)]))  # (K, B, Q, 4)
            centre = wide(found.init_reference_points).clamp(EPS, 1 - EPS).logit()  # (B, Q, 2), the same in every layer
        boxes = torch.cat([moved[..., :2] + centre, moved[..., 2:]], -1).sigmoid()
        return QueryBoxes(padded, size, classes, boxes, self.model)


@dataclass(frozen=True)
class QueryBoxes(DenseOutputs):
    """Logits of classes (K, B, Q, C) and boxes (K, B, Q, 4) in Transformers' form; the last layer is what counts."""

    classes: Tensor
    boxes: Tensor
    model: Any  # Transformers', which knows the weights of the loss

    def losses(self, targets: Objects | Tensor) -> Tensor:
        """Return one loss per image (B,), not finite where its answers are not: Transformers raises then."""
        if isinstance(targets, Tensor):
            raise ModelError("head=deformable_detr learns from boxes, and these data have a class per pixel")
        truth = self._truth(targets)
        usable = torch.stack([part.isfinite().flatten(2).all(2).all(0) for part in (self.classes, self.boxes)]).all(0)  # (B,)
        classes, boxes = (part.where(usable[:, None, None], 0.5) for part in (self.classes, self.boxes))
        broken = self.classes.sum((0, 2, 3)) + self.boxes.sum((0, 2, 3))
        return self._matched_losses(classes, boxes, truth).where(usable, broken)

    def _matched_losses(self, classes: Tensor, boxes: Tensor, truth: list[dict[str, Tensor]]) -> Tensor:
        """Return the losses (B,) of all layers, the paper's, per object of the image: all images at once.

        Transformers' own loss counts the objects of a whole batch together. Its matching is taken, and its weights.
        """
        config = self.model.config
        matcher = DeformableDetrHungarianMatcher(config.class_cost, config.bbox_cost, config.giou_cost)
        pairs = [matcher({"logits": c, "pred_boxes": b}, truth) for c, b in zip(classes, boxes, strict=True)]
        found = [(k, i, pair) for k, layer in enumerate(pairs) for i, pair in enumerate(layer)]
        counts = [len(one["boxes"]) for one in truth]
        before = [0, *accumulate(counts)]  # objects of the images before
        at = torch.cat([pad(torch.stack(pair, 1), (2, 0)) + torch.tensor([k, i, 0, before[i]]) for k, i, pair in found])
        layer, image, query, own = at.to(classes.device).unbind(1)  # of n pairs
        place = (layer, image, query)
        labels, wanted = (torch.cat([one[name] for one in truth])[own] for name in ("class_labels", "boxes"))
        answers = torch.zeros_like(classes)
        answers[(*place, labels)] = 1.0
        seen = boxes[place]  # (n, 4)
        apart = config.bbox_loss_coefficient * (seen - wanted).abs().sum(1)
        apart = apart + config.giou_loss_coefficient * (1 - overlap(corners_of(seen), corners_of(wanted)))
        of_boxes = torch.zeros_like(classes[..., 0]).index_put(place, apart)  # (K, B, Q)
        of_classes = CLASSES * focal(classes, answers, config.focal_alpha).sum(3)
        objects = classes.new_tensor([max(count, 1) for count in counts])
        return (of_classes + of_boxes).sum((0, 2)) / objects

    def _truth(self, targets: Objects) -> list[dict[str, Tensor]]:
        """Return the classes and boxes of the objects of every image that are learnt from, in Transformers' form."""
        learnt = torch.stack([learnable(targets, image) for image in range(self.classes.shape[1])]).cpu()  # (B, M), one wait
        places = learnt.flatten().nonzero()[:, 0].to(self.boxes.device)
        corners = targets.boxes.flatten(0, 1)[places] / self._sides(self.boxes)
        centred = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], -1)
        parts = [all_of.split(learnt.sum(1).tolist()) for all_of in (targets.classes.flatten(0, 1)[places], centred)]
        return [{"class_labels": classes, "boxes": boxes} for classes, boxes in zip(*parts, strict=True)]

    def detections(self, *, most: int = MOST) -> list[Detections]:
        """Return objects with boxes, cut at the edges of the image; a query may be of several classes."""
        found, (height, width) = [], self.size
        for logits, boxes in zip(self.classes[-1], self.boxes[-1], strict=True):
            scores, queries, classes = surest(logits.sigmoid(), most)
            corners = corners_of(boxes[queries]) * self._sides(boxes)
            found.append(Detections(scores, classes, corners.clamp(min=0).minimum(corners.new_tensor([width, height] * 2))))
        return found

    def _sides(self, like: Tensor) -> Tensor:
        """Return width, height, width, height of what the network saw, in pixels."""
        height, width = self.padded
        return like.new_tensor([width, height, width, height])


def corners_of(boxes: Tensor) -> Tensor:
    """Return boxes (n, 4), told by centre and size, as left, top, right, bottom."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], 1)


def overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the generalised IoU (arXiv 1902.09630) of every box (n, 4) with its counterpart, -1 to 1 (n,)."""
    first, last = torch.minimum(boxes[:, :2], others[:, :2]), torch.maximum(boxes[:, 2:], others[:, 2:])
    inner = torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])
    both, hull = inner.clamp(min=0).prod(1), (last - first).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (others[:, 2:] - others[:, :2]).prod(1) - both
    return both / union - (hull - union) / hull


def focal(logits: Tensor, answers: Tensor, alpha: float) -> Tensor:
    """Return the focal loss (arXiv 1708.02002, gamma 2) of every logit, for answers of 0 and 1 of the same shape."""
    loss = nn.functional.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    missed = (answers - logits.sigmoid()).abs()
    return loss * missed**2 * torch.where(answers > 0, alpha, 1 - alpha)
