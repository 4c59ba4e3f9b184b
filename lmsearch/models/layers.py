"""Layers shared by the two families: norms, patch embedding and merging, rotary and absolute positions.

Shapes: B batch, C image channels, (H, W) token grid, L = H * W tokens, D channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmsearch.models.any_grid import cubic_weights, is_open, places
from lmsearch.models.class_token import insert_token, split_token
from lmsearch.models.tracing import GraphInputs, graph_input, plain_grid
from lmsearch.scan.grids import Grid, halved, middle, num_tokens


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis, computed and returned in the dtype of x, which may be wider than the weight's."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.eps)


class LayerNorm(nn.LayerNorm):
    """PyTorch's, computed and returned in the dtype of x, which may be wider than the weight's."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


STEMS = ("patch", "conv")
NORMS = {"rms": RMSNorm, "layer": LayerNorm}  # both eps 1e-5


class PatchEmbed(nn.Module):
    """Image (B, C, h, w) to tokens (B, L, D) in raster order and their grid.

    `pad` zero-pads the image right and bottom to whole patches (LocalVim); without it the rest is cut off (LocalVMamba).
    `stem="conv"` looks at the image with a 3x3 convolution and GELU first, which small images learn from faster.
    """

    def __init__(self, patch_size: int, in_chans: int, dim: int, *, pad: bool, norm: bool, stem: str = "patch") -> None:
        super().__init__()
        self.patch_size, self.pad = patch_size, pad
        hidden = dim // 2
        self.stem = nn.Sequential(nn.Conv2d(in_chans, hidden, 3, padding=1), nn.GELU()) if stem == "conv" else nn.Identity()
        self.proj = nn.Conv2d(hidden if stem == "conv" else in_chans, dim, patch_size, patch_size)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def grid(self, img_size: tuple[int, int]) -> Grid:
        """Return the token grid of an image of (height, width) pixels."""
        up = self.patch_size - 1 if self.pad else 0
        return tuple((side + up) // self.patch_size for side in img_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        if self.pad:
            bottom, right = (-x.shape[-2] % self.patch_size, -x.shape[-1] % self.patch_size)
            x = F.pad(x, (0, right, 0, bottom)) if bottom or right else x
        x = self.proj(self.stem(x))  # (B, D, H, W)
        grid = plain_grid(x.shape[-2:])
        return self.norm(x.flatten(2).transpose(1, 2)), grid  # (B, L, D)


class PatchMerging(nn.Module):
    """Halve the grid and double the channels: tokens (B, H*W, D) to (B, ceil(H/2)*ceil(W/2), 2D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        (height, width), x = grid, x.unflatten(1, grid)  # (B, H, W, D)
        if height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
        return self.reduction(self.norm(x.flatten(1, 2))), halved(grid)


def _rope_angles(dim: int, grid: Grid, pretrained_side: int) -> Tensor:
    """Angles (L, dim) in float64: the first half turns with the row, the second with the column."""
    half = dim // 2
    freqs = 10000.0 ** (-torch.arange(0, half, 2, dtype=torch.float64, device="cpu") / half)

    def axis(side: int) -> Tensor:  # (side, half), every frequency twice in a row
        t = torch.arange(side, dtype=torch.float64, device="cpu") / side * pretrained_side
        return (t[:, None] * freqs).repeat_interleave(2, dim=1)

    rows, columns = axis(grid[0]), axis(grid[1])
    angles = torch.cat([rows[:, None].expand(*grid, half), columns[None].expand(*grid, half)], dim=-1)
    return angles.reshape(num_tokens(grid), dim)


@graph_input
def _rope_table(dim: int, grid: Grid, pretrained_side: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """cos and sin of the angles (2, L, dim), which are computed on the CPU, whatever device tensors are made on there."""
    angles = _rope_angles(dim, grid, pretrained_side)
    return torch.stack([angles.cos(), angles.sin()]).to(device, dtype)


def rope_tables(
    dim: int, grid: Grid, *, like: Tensor, pretrained_side: int = 14, inputs: GraphInputs | None = None
) -> tuple[Tensor, Tensor]:
    """Return cos and sin (L, dim) of LocalVim's 2-D rotary embedding for any grid, positions rescaled to `pretrained_side`.

    `inputs` are those of the module that calls, where it may be traced.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    if is_open(grid):
        return _open_rope_tables(dim, grid, pretrained_side, like.device, dtype)
    cos, sin = _rope_table(inputs or GraphInputs(), dim, grid, pretrained_side, like.device, dtype)
    return cos, sin


def _open_rope_tables(
    dim: int, grid: Grid, pretrained_side: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The same as a graph computes them for any grid, in `dtype`."""
    half = dim // 2
    freqs = torch.tensor([10000.0 ** (-i / half) for i in range(0, half, 2)], dtype=dtype, device=device).repeat_interleave(2)
    axes = (
        place.flatten()[:, None].to(dtype) / side * pretrained_side
        for place, side in zip(places(grid, device), grid, strict=True)
    )
    angles = torch.cat([t * freqs for t in axes], dim=1)  # (L, dim)
    return angles.cos(), angles.sin()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate interleaved channel pairs of x (B, L, D); returns x.dtype."""
    pairs = x.unflatten(-1, (-1, 2))
    turned = torch.stack((-pairs[..., 1], pairs[..., 0]), dim=-1).flatten(-2)
    return (x * cos + turned * sin).to(x.dtype)


def resize_positions(pos_embed: Tensor, old: Grid, new: Grid, *, cls_index: int | None = None) -> Tensor:
    """Resize absolute positions (1, L, D) from the `old` grid to the `new` one (bicubic), keeping the class token's row.

    `cls_index` is that row's index in the old table; in the result it is at new_H * new_W // 2.
    """
    if not is_open(new) and old == new:
        return pos_embed
    cls = None
    if cls_index is not None:
        pos_embed, cls = split_token(pos_embed, cls_index, dim=1)
    image = pos_embed.unflatten(1, old).permute(0, 3, 1, 2)  # (1, D, H, W)
    image = image.to(torch.promote_types(image.dtype, torch.float32))
    if is_open(new):
        rows, columns = (cubic_weights(before, side, like=image) for before, side in zip(old, new, strict=True))
        image = rows @ image @ columns.mT
    else:
        image = F.interpolate(image, size=new, mode="bicubic", align_corners=False, antialias=True)
    resized = image.to(pos_embed.dtype).flatten(2).transpose(1, 2)  # (1, L, D)
    return resized if cls is None else insert_token(resized, cls, middle(new))
