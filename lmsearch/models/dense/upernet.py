"""UPerNet (arXiv 1807.10221) from Transformers on our maps: classes of pixels. Needs the extra `dense`.

Shapes: maps (B, C, H, W) by level, finest first; logits (B, classes, h, w).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import UperNetConfig, UperNetForSemanticSegmentation

from lmsearch.models.any_grid import is_open, pooling_weights
from lmsearch.models.dense.handed import maps_config, width_for
from lmsearch.models.dense.pyramid import ChannelNorm, Level, resized


class MeanPool(nn.AdaptiveAvgPool2d):
    """Adaptive pooling that a graph which takes any size can hold as well: there as two products with matrices of weights."""

    output_size: int

    def forward(self, x: Tensor) -> Tensor:
        if not is_open(x.shape[-2:]):
            return super().forward(x)
        rows, columns = (pooling_weights(side, self.output_size, like=x) for side in x.shape[-2:])
        return rows @ (x @ columns.mT)  # (n, H) (B, C, H, W) (W, n)


class UperNet(nn.Module):
    """Its decoder, without the auxiliary head, and with LayerNorm over channels where Transformers has BatchNorm.

    BatchNorm raises for one image in training, whose pooled map is one cell, makes images of a batch depend on each other,
    and keeps statistics that fit none of a supernet's choices.
    """

    def __init__(self, levels: Sequence[Level], num_classes: int) -> None:
        super().__init__()
        config = UperNetConfig(
            backbone_config=maps_config(levels), hidden_size=width_for(levels, most=512), num_labels=num_classes,
            use_auxiliary_head=False,
        )  # fmt: skip
        self.decoder = UperNetForSemanticSegmentation(config).decode_head
        for module in list(self.decoder.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, ChannelNorm(child.num_features))
        for block in self.decoder.psp_modules.blocks:
            block.layers[0] = MeanPool(block.layers[0].output_size)
            block.add_module("0", block.layers[0])

    def forward(self, maps: Sequence[Tensor], padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Maps of an image of `padded` pixels to the logits of its upper left `size` pixels (height, width)."""
        return resized(self.decoder(list(maps)), padded)[..., : size[0], : size[1]]
