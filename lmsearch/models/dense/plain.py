"""The plain head: classes of pixels by two convolutions over the fused maps. Part of the core, so that it can be searched with.

Shapes: maps (B, C, H, W) by level, finest first; logits (B, classes, h, w).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lmsearch.models.dense.pyramid import ChannelNorm, Level, resized


class PlainHead(nn.Module):
    """Project every map to the channels of the finest, add them up on its grid, convolve 3x3, and classify each cell.

    It holds no BatchNorm: an image's logits do not depend on the others of its batch.
    """

    def __init__(self, levels: Sequence[Level], num_classes: int) -> None:
        super().__init__()
        width = levels[0].channels
        self.lateral = nn.ModuleList([nn.Conv2d(level.channels, width, 1) for level in levels])
        self.fuse = nn.Conv2d(width, width, 3, padding=1)
        self.norm = ChannelNorm(width)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: Sequence[Tensor], padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Maps of an image of `padded` pixels to the logits of its upper left `size` pixels (height, width)."""
        parts = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        fused = sum((resized(part, parts[0].shape[-2:]) for part in parts[1:]), parts[0])
        return resized(self.classifier(F.gelu(self.norm(self.fuse(fused)))), padded)[..., : size[0], : size[1]]
