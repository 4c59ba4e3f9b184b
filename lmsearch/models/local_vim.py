"""LocalVim: a plain stack of directional mixers over one grid of patch tokens (LocalMamba, arXiv 2403.09338).

Shapes: images (B, C, h, w); tokens (B, L, D) in raster order, L = H * W of the patch grid, plus one with a class token,
which sits at index H * W // 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmsearch.errors import ModelError
from lmsearch.kernels import directional_conv
from lmsearch.models.backbone import Backbone
from lmsearch.models.class_token import insert_token, split_token
from lmsearch.models.drop_path import DropPath
from lmsearch.models.init import check_init, init_local_vim
from lmsearch.models.layers import (
    NORMS,
    STEMS,
    PatchEmbed,
    apply_rope,
    resize_positions,
    rope_tables,
)
from lmsearch.models.mixer import DirectionalMixer, MixerOptions, Tokens
from lmsearch.models.scan_groups import ScanGroup, take
from lmsearch.models.tracing import GraphInputs
from lmsearch.scan.grids import Grid, middle, num_tokens

POOLS = ("", "avg", "token")


class LocalVimMixer(DirectionalMixer):
    """LocalVim's: a causal convolution along each order, the gate inside each direction."""

    PER_DIRECTION = (*DirectionalMixer.PER_DIRECTION, "conv_weight", "conv_bias")

    def __init__(self, d_model: int, directions: Sequence[str], options: MixerOptions, *, d_conv: int = 4) -> None:
        super().__init__(d_model, directions, options)
        k, d = len(self.directions), self.d_scan
        bound = d_conv**-0.5  # PyTorch's default for a depthwise convolution
        self.conv_weight = nn.Parameter(torch.empty(k, d, d_conv).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.empty(k, d).uniform_(-bound, bound))

    def no_weight_decay(self) -> set[str]:
        """Return the names of the vectors that are stacked over directions, which stay undecayed as other vectors do."""
        return super().no_weight_decay() | {"conv_bias"}

    def entered(self, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Tokens x (B, L, d_model) to what the directions scan and to the gate, each (B, L, d_inner)."""
        return self.in_proj(x).chunk(2, dim=-1)

    def split(self, x: Tensor, gate: Tensor) -> tuple[Tokens, Tensor]:
        """What is scanned of x and of its gate (B, L, d_inner), and what passes by, gated already."""
        sizes = (self.d_scan, self.d_inner - self.d_scan)
        (x, by), (z, gate) = x.split(sizes, dim=-1), gate.split(sizes, dim=-1)
        return Tokens(x, z), by * F.silu(gate)

    def convolved(self, x: Tensor, group: ScanGroup, rows: slice | Tensor) -> Tensor:
        """Tokens x (B, P, D) after a causal convolution along each order: (B, K, P, D)."""
        return directional_conv(
            x,
            take(self.conv_weight, rows),
            take(self.conv_bias, rows),
            self.order_of(group, x.device),
            backend=self.options.backend,
        )


class LocalVimBlock(nn.Module):
    """Add, norm, mixer: the mixer's output is added to the residual by the next block. The residual is float32 or wider."""

    def __init__(self, dim: int, mixer: LocalVimMixer, *, norm: str, drop_path: DropPath) -> None:
        super().__init__()
        self.norm = NORMS[norm](dim)
        self.mixer = mixer
        self.drop_path = drop_path

    def forward(self, hidden: Tensor, residual: Tensor | None, grid: Grid, cls_index: int | None) -> tuple[Tensor, Tensor]:
        residual = add_residual(hidden, residual, self.drop_path)
        hidden = self.norm(residual).to(hidden.dtype)
        return self.mixer(hidden, grid, cls_index=cls_index), residual


def add_residual(hidden: Tensor, residual: Tensor | None, drop_path: DropPath) -> Tensor:
    """residual + drop_path(hidden) in at least float32; the first block's residual is `hidden` itself."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    return hidden.to(wide) if residual is None else drop_path(hidden).to(wide) + residual


class LocalVim(Backbone):
    """See the module docstring. `directions` holds one list of scan directions per layer.

    `global_pool`: "avg", "token" (the class token, needs middle_cls_token) "" (no pooling: one output per token), or None
    for the class token where there is one and the average elsewhere.
    """

    last_norm = "norm_f"

    def __init__(
        self,
        *,
        directions: Sequence[Sequence[str]],
        img_size: tuple[int, int],
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 192,
        global_pool: str | None = None,
        drop_path_rate: float = 0.1,
        use_rope: bool = True,
        rope_residual: bool = True,
        middle_cls_token: bool = False,
        norm: str = "rms",
        stem: str = "patch",
        mixer: MixerOptions = MixerOptions(),
        init: str = "default",
    ) -> None:
        super().__init__()
        check_init(init)
        global_pool = ("token" if middle_cls_token else "avg") if global_pool is None else global_pool
        self._check(embed_dim, global_pool, norm, stem, use_rope=use_rope, cls=middle_cls_token)
        depth = len(directions)
        self.num_classes, self.num_features, self.global_pool = num_classes, embed_dim, global_pool
        self.use_rope, self.rope_residual, self.graph_inputs = use_rope, rope_residual, GraphInputs()
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim, pad=True, norm=False, stem=stem)
        self.grid = self.patch_embed.grid(img_size)
        tokens = num_tokens(self.grid)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if middle_cls_token else None
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens + middle_cls_token, embed_dim))
        rates = [0.0, *np.linspace(0, drop_path_rate, depth).tolist()]  # block b takes rate b - 1
        blocks = [
            LocalVimBlock(embed_dim, LocalVimMixer(embed_dim, names, mixer), norm=norm, drop_path=DropPath(rates[b], b))
            for b, names in enumerate(directions)
        ]
        self.layers = cast("Sequence[LocalVimBlock]", nn.ModuleList(blocks))
        self.feature_info = [{"num_chs": embed_dim, "reduction": patch_size, "module": f"layers.{b}"} for b in range(depth)]
        self.drop_path = DropPath(drop_path_rate, depth)
        self.norm_f = NORMS[norm](embed_dim)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes > 0 else nn.Identity()
        init_local_vim(self, init, depth)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    @staticmethod
    def _check(embed_dim: int, global_pool: str, norm: str, stem: str, *, use_rope: bool, cls: bool) -> None:
        for name, value, accepted in (("norm", norm, NORMS), ("stem", stem, STEMS)):
            if value not in accepted:
                raise ModelError(f"{name}={value!r} is not accepted; accepted: {', '.join(accepted)}")
        check_pool(global_pool, cls=cls)
        if use_rope and cls:
            raise ModelError(
                "use_rope=True rotates grid positions and a class token has none; set use_rope or middle_cls_token to false"
            )
        if use_rope and embed_dim % 4:
            raise ModelError(f"embed_dim={embed_dim} must be a multiple of 4 with use_rope=True")

    def check_pool(self, global_pool: str) -> None:
        """Raise ModelError where this network cannot pool its tokens so."""
        check_pool(global_pool, cls=self.cls_token is not None)

    def layer_grids(self, img_size: tuple[int, int]) -> list[Grid]:
        """Return the token grid of every layer for an image of (height, width) pixels."""
        return [self.patch_embed.grid(img_size)] * len(self.layers)

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that stay undecayed although they have more than one axis."""
        return super().no_weight_decay() | {"pos_embed", "cls_token"}

    def spatial(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Return the tokens of the grid, without a class token: (B, L, D) to (B, H * W, D)."""
        if self.cls_token is None:
            return tokens
        return split_token(tokens, middle(grid), dim=1)[0]

    def _embed(self, x: Tensor) -> tuple[Tensor, Grid, int | None]:
        x, grid = self.patch_embed(x)  # (B, L, D)
        if self.cls_token is None:
            return x + resize_positions(self.pos_embed, self.grid, grid), grid, None
        index, old = middle(grid), middle(self.grid)
        x = insert_token(x, self.cls_token.to(x.dtype), index)
        return x + resize_positions(self.pos_embed, self.grid, grid, cls_index=old), grid, index

    def _rope(self, hidden: Tensor, grid: Grid) -> tuple[Tensor, Tensor] | None:
        if not self.use_rope:
            return None
        return rope_tables(hidden.shape[-1], grid, like=hidden, inputs=self.graph_inputs)

    def _turn(self, hidden: Tensor, residual: Tensor | None, rope: tuple[Tensor, Tensor] | None) -> tuple:
        """Rotate what enters a block."""
        if rope is None:
            return hidden, residual
        turns = self.rope_residual and residual is not None
        return apply_rope(hidden, *rope), apply_rope(residual, *rope) if turns and residual is not None else residual

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, C, h, w) of any size to normalised tokens (B, L, D)."""
        hidden, grid, cls_index = self._embed(x)
        residual, rope = None, self._rope(hidden, grid)
        for layer in self.layers:
            hidden, residual = layer(*self._turn(hidden, residual, rope), grid, cls_index)
        return self.norm_f(add_residual(hidden, residual, self.drop_path)).to(hidden.dtype)

    def tokens_by_level(self, x: Tensor) -> Iterator[tuple[Tensor, Grid]]:
        """Images (B, C, h, w) to the residual stream (B, L, D) after each layer, and the grid."""
        hidden, grid, cls_index = self._embed(x)
        residual, rope, whole = None, self._rope(hidden, grid), DropPath(0.0)
        for number, layer in enumerate(self.layers, start=1):
            hidden, residual = layer(*self._turn(hidden, residual, rope), grid, cls_index)
            yield add_residual(hidden, residual, self.drop_path if number == len(self.layers) else whole), grid


def check_pool(global_pool: str, *, cls: bool) -> None:
    """Raise ModelError for a way to pool that LocalVim, with or without a class token, does not have."""
    if global_pool not in POOLS or (global_pool == "token" and not cls):
        raise ModelError(f"global_pool={global_pool!r} is not accepted; accepted: 'avg', '', and 'token' with middle_cls_token")
