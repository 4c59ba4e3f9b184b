"""A network as timm's `features_only=True` gives it: images to a list of feature maps, and what is known of each.

Shapes: images (B, C, h, w); maps (B, D, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lmsearch.models.backbone import Backbone, take_levels
from lmsearch.models.dense.net import BACKBONE, OnBackbone, chosen_levels, to_whole_patches


class FeatureInfo:
    """Channels, stride in pixels and module of every map that is given, in timm's names; `info` tells of all levels."""

    def __init__(self, info: Sequence[dict[str, Any]], out_indices: Sequence[int]) -> None:
        self.info, self.out_indices = [dict(told) | {"index": place} for place, told in enumerate(info)], tuple(out_indices)

    def get(self, key: str) -> list[Any]:
        """Return one fact of every map that is given: num_chs, reduction, module or index."""
        return [self.info[level][key] for level in self.out_indices]

    def get_dicts(self, keys: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return the facts of every map that is given, all or those named."""
        return [{key: self.info[level][key] for key in keys or self.info[level]} for level in self.out_indices]

    def channels(self) -> list[int]:
        """Return the channels of every map that is given."""
        return self.get("num_chs")

    def reduction(self) -> list[int]:
        """Return the stride in pixels of every map that is given."""
        return self.get("reduction")

    def module_name(self) -> list[str]:
        """Return the name of the module that makes each map."""
        return self.get("module")

    def __len__(self) -> int:
        return len(self.info)

    def __getitem__(self, level: int) -> dict[str, Any]:
        return self.info[level]


class FeatureNet(OnBackbone):
    """The maps of the levels `out_indices` of a backbone without a classifier; levels after the last of them do not run.

    out_indices None: all stages of LocalVMamba, the last layer of LocalVim. Images are padded to whole patches.
    """

    def __init__(self, backbone: Backbone, *, out_indices: Sequence[int] | int | None = None, frozen_stages: int = 0) -> None:
        super().__init__()
        info = backbone.feature_info
        levels = (
            chosen_levels(backbone, None, most=None)
            if out_indices is None
            else take_levels(len(info), out_indices, option="out_indices")
        )
        self.backbone, self.num_classes, self.grid = backbone, 0, backbone.grid
        self.feature_info = FeatureInfo(info, levels)
        backbone.freeze(frozen_stages)

    def layer_of(self, name: str) -> int:
        """Return how deep a parameter lies."""
        return self.backbone.layer_of(name.removeprefix(BACKBONE))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (B, C, h, w) of any size to the maps, in the order of out_indices."""
        images, levels = to_whole_patches(x, self.patch_size), self.feature_info.out_indices
        maps = self.backbone.forward_intermediates(images, levels, stop_early=True, intermediates_only=True)
        return [m for m in maps if isinstance(m, Tensor)]
