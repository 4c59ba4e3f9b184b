"""DenseNet: a backbone, its maps at several strides and a head, as one network that trains and searches as any other.

Shapes: images (B, C, h, w) of any size; maps (B, D, H, W); logits (B, classes, h, w).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lmsearch.errors import ModelError, short
from lmsearch.models.backbone import Backbone, Network, take_levels
from lmsearch.models.dense.heads import HeadKind
from lmsearch.models.dense.pyramid import Pyramid, SameStrides, levels_of
from lmsearch.plain import plain_numbers
from lmsearch.scan.grids import Grid

BACKBONE = "backbone."  # what names of the backbone's tensors begin with


class OnBackbone(Network):
    """A network around a backbone, which sees images with zeros right and below up to whole patches."""

    backbone: Backbone

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.backbone.patch_size

    def layer_grids(self, img_size: tuple[int, int]) -> list[Grid]:
        """Return the token grid of every mixer for an image of (height, width) pixels, padded to whole patches."""
        return self.backbone.layer_grids(whole_patches(img_size, self.patch_size))

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that stay undecayed although they have more than one axis, the backbone's among them."""
        return super().no_weight_decay() | {BACKBONE + name for name in self.backbone.no_weight_decay()}


class DenseNet(OnBackbone):
    """Maps of `backbone`, which has no classifier, to the answers of a head; the backbone's parameters are `backbone.<name>`.

    out_indices: the backbone's levels whose maps are used, the last among them; None takes all stages of LocalVMamba and the
    last layer of LocalVim. frozen_stages: levels that keep their weights, with the patch embedding; 0: none.
    """

    def __init__(
        self,
        backbone: Backbone,
        kind: HeadKind,
        *,
        num_classes: int,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.kind, self.num_classes, self.grid = backbone, kind, num_classes, backbone.grid
        self.out_indices = chosen_levels(backbone, out_indices, most=kind.levels)
        self.map_levels = levels_of(backbone.feature_info, self.out_indices)
        self.neck, self.head = self.fresh_parts()
        backbone.freeze(frozen_stages)

    def fresh_parts(self) -> tuple[SameStrides | Pyramid, nn.Module]:
        """Return a new neck and a new head, as this network has them."""
        number = self.kind.levels
        neck = SameStrides(self.map_levels) if number is None else Pyramid(self.map_levels, number)
        return neck, self.kind.build(neck.levels, self.num_classes)

    def layer_of(self, name: str) -> int:
        """Return how deep a parameter lies; the head and its maps follow the last layer."""
        inside = name.startswith(BACKBONE)
        return self.backbone.layer_of(name.removeprefix(BACKBONE)) if inside else len(self.mixers()) + 1

    def same_parts(self, other: DenseNet) -> bool:
        """Tell whether another network has the same head on the same maps, whatever its classes."""
        return self.kind is other.kind and self.map_levels == other.map_levels and self.out_indices == other.out_indices

    def map_shapes(self, padded: tuple[int, int]) -> list[tuple[int, Grid]]:
        """Return channels and grid of the backbone's maps of an image of `padded` pixels."""
        return [(level.channels, tuple(-(-side // level.stride) for side in padded)) for level in self.map_levels]

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return what the head sees of images (B, C, h, w), finest first."""
        return self.neck(self.backbone.forward_intermediates(images, self.out_indices, norm=True, intermediates_only=True))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, h, w) to the head's answers at (h, w); zeros fill up whole patches right and below, and are cut off."""
        size, images = tuple(images.shape[-2:]), to_whole_patches(images, self.patch_size)
        return self.head(self.maps(images), tuple(images.shape[-2:]), size)

    def get_classifier(self) -> nn.Module:
        """Return the head."""
        return self.head


def whole_patches(size: tuple[int, int], patch: int) -> tuple[int, int]:
    """Return (height, width) rounded up to multiples of `patch` pixels."""
    height, width = (-(-side // patch) * patch for side in size)
    return height, width


def to_whole_patches(images: Tensor, patch: int) -> Tensor:
    """Return images (B, C, h, w) with zeros right and below up to multiples of `patch` pixels."""
    right, below = (-side % patch for side in (images.shape[-1], images.shape[-2]))
    return F.pad(images, (0, right, 0, below)) if right or below else images


def chosen_levels(backbone: Backbone, indices: Sequence[int] | None, *, most: int | None) -> list[int]:
    """Return the levels of a backbone whose maps a head uses; raise ModelError for those that cannot be."""
    info = backbone.feature_info
    if indices is None:
        stages = [i for i, told in enumerate(info) if i + 1 == len(info) or info[i + 1]["reduction"] > told["reduction"]]
        return stages if most is None else stages[-most:]
    indices = plain_numbers(indices)
    if not isinstance(indices, Sequence) or isinstance(indices, str):
        raise ModelError(f"out_indices={short(indices)} is not accepted; expected a list of levels")
    found = take_levels(len(info), indices, option="out_indices")
    if found != sorted(set(found)):
        raise ModelError(f"out_indices={list(indices)} must name levels in their order, each once")
    if found[-1] != len(info) - 1:
        raise ModelError(
            f"out_indices={list(indices)} leaves out the last level, {len(info) - 1}; layers after {found[-1]} would have no part"
        )
    if most is not None and len(found) > most:
        raise ModelError(f"out_indices={list(indices)} names {len(found)} levels; this head takes up to {most}")
    return found
