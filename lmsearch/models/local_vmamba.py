"""LocalVMamba: four (or fewer) stages of directional mixers, halving the grid between them (LocalMamba, arXiv 2403.09338).

Shapes: images (B, C, h, w); tokens (B, L, D) in raster order with their grid (H, W) passed along.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import cast

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from lmsearch.errors import ModelError
from lmsearch.models.backbone import Backbone
from lmsearch.models.drop_path import DropPath
from lmsearch.models.init import check_init, init_linears
from lmsearch.models.layers import PatchEmbed, PatchMerging
from lmsearch.models.mixer import DirectionalMixer, MixerOptions
from lmsearch.scan.grids import Grid, halved

POOLS = ("", "avg")


class LocalVMambaMixer(DirectionalMixer):
    """LocalVMamba's: one 2-D depthwise convolution before all scans, a norm and one gate after the merge."""

    def __init__(self, d_model: int, directions: Sequence[str], options: MixerOptions) -> None:
        super().__init__(d_model, directions, options)
        self.conv = nn.Conv2d(self.d_inner, self.d_inner, 3, padding=1, groups=self.d_inner)
        self.out_norm = nn.LayerNorm(self.d_inner)

    def entered(self, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Tokens x (B, L, d_model) to what the directions scan and to the gate, each (B, L, d_inner)."""
        x, gate = self.in_proj(x).chunk(2, dim=-1)
        x = F.silu(self.conv(x.unflatten(1, grid).permute(0, 3, 1, 2)))  # (B, d_inner, H, W), channels last in memory
        return x.permute(0, 2, 3, 1).flatten(1, 2), gate

    def left(self, y: Tensor, gate: Tensor) -> Tensor:
        """The merged branches y (B, L, d_inner) and the gate to the result (B, L, d_model)."""
        return self.out_proj(self.out_norm(y) * F.silu(gate))


class LocalVMambaBlock(nn.Module):
    """x + drop_path(mixer(norm(x)))."""

    def __init__(self, dim: int, mixer: LocalVMambaMixer, *, drop_path: DropPath) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mixer = mixer
        self.drop_path = drop_path

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        return x + self.drop_path(self.mixer(self.norm(x), grid))


class Stage(nn.Module):
    """Blocks on one grid; `reduce` is the way to the next stage."""

    def __init__(self, blocks: Sequence[LocalVMambaBlock], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = cast("Sequence[LocalVMambaBlock]", nn.ModuleList(blocks))
        self.downsample = downsample

    def reduce(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Halve the grid where another stage follows."""
        return (x, grid) if self.downsample is None else self.downsample(x, grid)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        for block in self.blocks:
            x = block(x, grid)
        return x  # (B, L, D), as feature_info describes it


class LocalVMamba(Backbone):
    """See the module docstring. `directions` is flat over the stages: one list of scan directions per block."""

    last_norm = "norm"

    def __init__(
        self,
        *,
        directions: Sequence[Sequence[str]],
        img_size: tuple[int, int],
        patch_size: int = 4,
        in_chans: int = 3,
        num_classes: int = 1000,
        dims: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (2, 2, 9, 2),
        global_pool: str = "avg",
        drop_path_rate: float = 0.2,
        mixer: MixerOptions = MixerOptions(),
        init: str = "default",
    ) -> None:
        super().__init__()
        check_init(init)
        self.check_pool(global_pool)
        self._check(dims, depths)
        self.num_classes, self.num_features, self.global_pool = num_classes, dims[-1], global_pool
        self.patch_embed = PatchEmbed(patch_size, in_chans, dims[0], pad=False, norm=True)
        self.grid = self.patch_embed.grid(img_size)
        rates = np.linspace(0, drop_path_rate, sum(depths)).tolist()
        starts = list(accumulate(depths, initial=0))
        stages = []
        for s, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            blocks = [
                LocalVMambaBlock(dim, LocalVMambaMixer(dim, directions[b], mixer), drop_path=DropPath(rates[b], b))
                for b in range(starts[s], starts[s] + depth)
            ]
            stages.append(Stage(blocks, PatchMerging(dim) if s + 1 < len(dims) else None))
        self.stages = cast("Sequence[Stage]", nn.ModuleList(stages))
        self.feature_info = [
            {"num_chs": dim, "reduction": patch_size * 2**s, "module": f"stages.{s}"} for s, dim in enumerate(dims)
        ]
        self.norm = nn.LayerNorm(dims[-1])
        self.head = nn.Linear(dims[-1], num_classes) if num_classes > 0 else nn.Identity()
        init_linears(self, init)

    @staticmethod
    def check_pool(global_pool: str) -> None:
        """Raise ModelError for a way to pool that LocalVMamba does not have."""
        if global_pool not in POOLS:
            raise ModelError(f"global_pool={global_pool!r} is not accepted; accepted: 'avg', ''")

    @staticmethod
    def _check(dims: Sequence[int], depths: Sequence[int]) -> None:
        if len(dims) != len(depths) or any(b != 2 * a for a, b in zip(dims, dims[1:], strict=False)):
            raise ModelError(f"dims={list(dims)} must double from stage to stage and be as many as depths={list(depths)}")

    def layer_grids(self, img_size: tuple[int, int]) -> list[Grid]:
        """Return the token grid of every block for an image of (height, width) pixels."""
        grid, grids = self.patch_embed.grid(img_size), []
        for stage in self.stages:
            grids += [grid] * len(stage.blocks)
            grid = halved(grid)
        return grids

    def tokens_by_level(self, x: Tensor) -> Iterator[tuple[Tensor, Grid]]:
        """Images (B, C, h, w) to the tokens (B, L, D) after each stage's blocks, and their grids."""
        x, grid = self.patch_embed(x)
        for stage in self.stages:
            x = stage(x, grid)
            yield x, grid
            x, grid = stage.reduce(x, grid)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, C, h, w) of any size to the last stage's normalised tokens (B, L, D)."""
        x, grid = self.patch_embed(x)
        for stage in self.stages:
            x, grid = stage.reduce(stage(x, grid), grid)
        return self.norm(x)
