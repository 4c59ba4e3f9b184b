"""Heads of Transformers on our maps: a stand-in for their backbone that hands over what it was given.

Transformers' heads build a backbone from a configuration and call it themselves. Attribute names of the models are those of
the weights that are published for them, so that they stay what they are. Needs the extra `dense`.
Shapes: maps (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from lmsearch.models.dense.pyramid import Level

NAME = "lmsearch_maps"  # model type of the stand-in
GROUPS = 32  # Transformers' heads divide their channels into so many
GROUP_SIZE = 8  # channels of a group where there are 256


class MapsConfig(BackboneConfigMixin, PreTrainedConfig):
    """The channels of the maps."""

    model_type = NAME

    def __init__(self, channels: Sequence[int] = (), **kwargs) -> None:
        self.channels = list(channels)
        self.stage_names = [f"level{place}" for place in range(len(self.channels))]
        super().__init__(**kwargs)
        self.set_output_features_output_indices(out_features=self.stage_names, out_indices=None)


class HandedMaps(BackboneMixin, PreTrainedModel):
    """What stands where a head of Transformers has its backbone: it returns the maps of `handing`, whatever the image."""

    config_class = MapsConfig
    has_attentions = False

    def __init__(self, config: MapsConfig) -> None:
        super().__init__(config)
        self.num_features = config.channels
        self.maps: tuple[Tensor, ...] | None = None
        self.post_init()

    def forward(self, pixel_values: Tensor, **kwargs) -> BackboneOutput:
        return BackboneOutput(feature_maps=self.maps)


def maps_config(levels: Sequence[Level]) -> MapsConfig:
    """Return the configuration of a stand-in for maps of these levels."""
    AutoConfig.register(NAME, MapsConfig, exist_ok=True)
    AutoBackbone.register(MapsConfig, HandedMaps, exist_ok=True)
    return MapsConfig([level.channels for level in levels])


@contextmanager
def handing(model: nn.Module, maps: Sequence[Tensor]) -> Iterator[None]:
    """Within this context the backbone inside `model` returns `maps`."""
    (stand_in,) = (module for module in model.modules() if isinstance(module, HandedMaps))
    stand_in.maps = tuple(maps)
    try:
        yield
    finally:
        stand_in.maps = None


def own_dtype(model: nn.Module, maps: Sequence[Tensor]) -> list[Tensor]:
    """Return the maps in the dtype of the model's weights, whatever autocast made of them."""
    dtype = next(model.parameters()).dtype
    return [x.to(dtype) for x in maps]


def wide(x: Tensor) -> Tensor:
    """Return x in float32 or wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def image_like(maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Return zeros that look like the images (B, 1, h, w) of the maps, without taking memory: heads read their shape only."""
    return maps[0].new_zeros(()).expand(len(maps[0]), 1, *size)


def group_norms(model: nn.Module) -> None:
    """Let groups of GroupNorm hold GROUP_SIZE channels, as they do in the published heads, also where a head is narrower.

    A group of one channel is one number on a map of one cell: for one image PyTorch raises, for two it returns zeros.
    """
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = module.num_channels // GROUP_SIZE


def width_for(levels: Sequence[Level], *, most: int = 256) -> int:
    """Return the channels of a head for these maps: those of the coarsest in whole groups, at most `most`."""
    return min(-(-levels[-1].channels // GROUPS) * GROUPS, most)


def heads_for(width: int) -> int:
    """Return the number of attention heads, 8 or more: they start by looking into as many directions, evenly around."""
    channels = 4  # of a head: powers of two
    while width % (2 * channels) == 0 and width // (2 * channels) >= 8:
        channels *= 2
    return width // channels
