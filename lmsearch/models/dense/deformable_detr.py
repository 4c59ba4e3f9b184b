"""Deformable DETR (arXiv 2010.04159) from Transformers on our maps: objects with boxes. Needs the extra `dense`.

Shapes: B images of h x w pixels, Q queries, C classes, K layers of the decoder. Transformers' boxes are centre x, centre y,
width, height as shares of the padded image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrMultiscaleDeformableAttention

from lmsearch.errors import ModelError
from lmsearch.models.dense.handed import group_norms, handing, heads_for, image_like, maps_config, width_for
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
        """Maps of images of `padded` pixels to answers for their upper left `size` pixels (height, width), in float32."""
        with torch.autocast(maps[0].device.type, enabled=False), handing(self.model, [x.float() for x in maps]):
            found = self.model.model(image_like(maps, padded))
            hidden = found.intermediate_hidden_states.unbind(1)  # K times (B, Q, D)
            classes = torch.stack([out(x) for out, x in zip(self.model.class_embed, hidden, strict=True)])
            moved = torch.stack([out(x) for out, x in zip(self.model.bbox_embed, hidden, strict=True)])  # (K, B, Q, 4)
            centre = found.init_reference_points.clamp(EPS, 1 - EPS).logit()  # (B, Q, 2), the same in every layer
        boxes = torch.cat([moved[..., :2] + centre, moved[..., 2:]], -1).sigmoid()
        return QueryBoxes(padded, size, classes, boxes, self.model)


@dataclass(frozen=True)
class QueryBoxes(DenseOutputs):
    """Logits of classes (K, B, Q, C) and boxes (K, B, Q, 4) in Transformers' form; the last layer is what counts."""

    classes: Tensor
    boxes: Tensor
    model: Any  # Transformers', which knows the loss

    def losses(self, targets: Objects | Tensor) -> Tensor:
        """Return one loss per image (B,), NaN where the boxes are: Transformers raises then, and has no word for it."""
        if isinstance(targets, Tensor):
            raise ModelError("head=deformable_detr learns from boxes, and these data have a class per pixel")
        return torch.stack([self._loss(image, targets) for image in range(self.classes.shape[1])])

    def _loss(self, image: int, targets: Objects) -> Tensor:
        learnt = learnable(targets, image)
        corners = targets.boxes[image][learnt] / self._sides(self.boxes)
        centred = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], -1)
        truth = [{"class_labels": targets.classes[image][learnt], "boxes": centred}]
        classes, boxes = self.classes[:, image, None], self.boxes[:, image, None]  # (K, 1, Q, ...)
        if not (classes.isfinite().all() and boxes.isfinite().all()):
            return classes.sum() + boxes.sum()
        head = self.model
        loss, parts, _ = head.loss_function(classes[-1], truth, classes.device, boxes[-1], head.config, classes, boxes)
        of_classes = [part for name, part in parts.items() if name.startswith("loss_ce")]  # one per layer of the decoder
        return loss + (CLASSES - 1) * torch.stack(of_classes).sum()

    def detections(self, *, most: int = MOST) -> list[Detections]:
        """Return objects with boxes, cut at the edges of the image; a query may be of several classes."""
        found, (height, width) = [], self.size
        for logits, boxes in zip(self.classes[-1], self.boxes[-1], strict=True):
            scores, queries, classes = surest(logits.sigmoid(), most)
            centre, half = boxes[queries, :2], boxes[queries, 2:] / 2
            corners = torch.cat([centre - half, centre + half], -1) * self._sides(boxes)
            found.append(Detections(scores, classes, corners.clamp(min=0).minimum(corners.new_tensor([width, height] * 2))))
        return found

    def _sides(self, like: Tensor) -> Tensor:
        """Return width, height, width, height of what the network saw, in pixels."""
        height, width = self.padded
        return like.new_tensor([width, height, width, height])
