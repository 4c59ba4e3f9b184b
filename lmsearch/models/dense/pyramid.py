"""Feature maps of a backbone at several strides, each normalised: what dense heads see.

Shapes: maps (B, C, H, W); a stride is the side of a cell in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FINEST = 4  # stride in pixels below which tokens are not spread further
MOST_DOUBLINGS = 2  # as in ViTDet (arXiv 2203.16527): from patches of 16 pixels to cells of 4


@dataclass(frozen=True)
class Level:
    """Channels and stride of one feature map."""

    channels: int
    stride: int


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of maps (B, C, H, W): the same for a batch of one image as for many, unlike BatchNorm."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SameStrides(nn.Module):
    """The maps as they are, each normalised."""

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.norms = nn.ModuleList([ChannelNorm(level.channels) for level in levels])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [norm(x) for norm, x in zip(self.norms, maps, strict=True)]


class Pyramid(nn.Module):
    """`number` maps, each of twice the stride of the one before, from maps of one stride or of doubling strides.

    Of one stride (LocalVim) each is made from the last map, or from its own where there are as many, by transposed
    convolutions or pooling: the simple feature pyramid of ViTDet, arXiv 2203.16527. Stages of doubling strides (LocalVMamba)
    stay as they are; where there are fewer than wanted, the last one is pooled for the rest.
    """

    def __init__(self, levels: Sequence[Level], number: int) -> None:
        super().__init__()
        first = levels[0].stride
        plain = all(level.stride == first for level in levels)
        doublings = spread(first) if plain else 0
        self.sources, paths, out = [], [], []
        for place in range(number):
            source = place if not plain or len(levels) == number else len(levels) - 1
            source = min(source, len(levels) - 1)
            steps = doublings - place if plain else source - place
            path, channels = scaled(levels[source].channels, steps)
            self.sources.append(source)
            paths.append(path)
            out.append(Level(channels, levels[source].stride >> steps if steps > 0 else levels[source].stride << -steps))
        self.paths = nn.ModuleList(paths)
        self.levels = tuple(out)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [path(maps[source]) for path, source in zip(self.paths, self.sources, strict=True)]


def spread(stride: int) -> int:
    """Return how many times cells of `stride` pixels are halved on the way to cells of FINEST pixels."""
    steps = 0
    while steps < MOST_DOUBLINGS and stride % 2 == 0 and stride // 2 >= FINEST:
        stride, steps = stride // 2, steps + 1
    return steps


def scaled(channels: int, steps: int) -> tuple[nn.Sequential, int]:
    """Return what makes a map 2 ** steps times as wide and high, a norm at its end, and the channels that it gives."""
    parts: list[nn.Module] = []
    for step in range(steps):
        fewer = max(channels // 2, 1)
        parts += [*([ChannelNorm(channels), nn.GELU()] if step else []), nn.ConvTranspose2d(channels, fewer, 2, 2)]
        channels = fewer
    parts += [nn.MaxPool2d(2, ceil_mode=True)] * -steps  # rounded up, as stages are
    return nn.Sequential(*parts, ChannelNorm(channels)), channels


def levels_of(feature_info: Sequence[dict[str, Any]], indices: Sequence[int]) -> list[Level]:
    """Return the levels that a backbone's feature_info tells of."""
    return [Level(feature_info[i]["num_chs"], feature_info[i]["reduction"]) for i in indices]


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (B, C, H, W) as (B, C, *size), bilinear, as two products with matrices of weights.

    That is faster than F.interpolate on a CPU where cells are many pixels wide, and its gradient on a GPU is the same in
    every run.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    rows, columns = (weights(old, new, like=x) for old, new in zip(x.shape[-2:], size, strict=True))
    return rows @ (x.contiguous() @ columns.mT)  # (h, H) (B, C, H, W) (W, w)


def weights(old: int, new: int, *, like: Tensor) -> Tensor:
    """Return the part (new, old) that every one of `old` cells has in each of `new` ones along an axis."""
    eye = torch.eye(old, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))
    return F.interpolate(eye[None], size=new, mode="linear", align_corners=False)[0].mT.to(like.dtype)
