"""The contract of both families, in timm's names: features of every layer or stage, head, and what is not decayed or frozen.

Shapes: images (B, C, h, w); tokens (B, L, D) in raster order; feature maps (B, D, H, W), or (B, H, W, D) as "NHWC".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lmsearch.errors import ModelError, short
from lmsearch.models.class_token import take_token
from lmsearch.models.layers import PatchEmbed
from lmsearch.models.mixer import DirectionalMixer, recompute_mixers
from lmsearch.plain import plain_numbers
from lmsearch.scan.grids import Grid

FORMATS = ("NCHW", "NHWC")
TOKENS = ("patch_embed.", "pos_embed", "cls_token")  # parameters that make tokens


class Network(nn.Module):
    """What a network of directional mixers offers to optimizers, searches and tools, whatever it is for."""

    num_classes: int
    grid: Grid  # tokens of the image size that the model was built for

    def layer_grids(self, img_size: tuple[int, int]) -> list[Grid]:
        """Return the token grid of every mixer for an image of (height, width) pixels."""
        raise TypeError(f"{type(self).__name__} does not say which grids its mixers have")

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        raise TypeError(f"{type(self).__name__} does not say how large its patches are")

    def layer_of(self, name: str) -> int:
        """Return how deep a parameter lies: 0 for what makes tokens, 1 and on for the layers, one more for what follows them."""
        raise TypeError(f"{type(self).__name__} does not say how deep its parameters lie")

    def mixers(self) -> list[DirectionalMixer]:
        """Return the mixers in the order of the layers."""
        return [m for m in self.modules() if isinstance(m, DirectionalMixer)]

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that stay undecayed although they have more than one axis."""
        return {
            f"{name}.{own}" for name, m in self.named_modules() if isinstance(m, DirectionalMixer) for own in m.no_weight_decay()
        }

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute every mixer again in the backward pass of training instead of keeping its activations."""
        recompute_mixers(self, enable)


class Backbone(Network):
    """A network of one or several levels with a classification head, for other heads to use as well.

    A family sets the attributes below, names its last norm in `last_norm` and yields its tokens in `tokens_by_level`.
    `feature_info` holds a dict per level (a layer of LocalVim, a stage of LocalVMamba): num_chs, reduction, module.
    """

    num_features: int  # channels of the tokens that the head sees
    global_pool: str
    patch_embed: PatchEmbed
    head: nn.Module
    feature_info: list[dict[str, Any]]
    last_norm: str  # name of the norm after the last level
    frozen_levels: int = 0  # how many levels `freeze` has frozen
    frozen_names: frozenset[str] = frozenset()  # of the parameters that it has frozen, not the user

    def tokens_by_level(self, x: Tensor) -> Iterator[tuple[Tensor, Grid]]:
        """Images (B, C, h, w) to the tokens (B, L, D) after each level, before the last norm, and their grids.

        Drop path acts on what goes on to the next level only.
        """
        raise TypeError(f"{type(self).__name__} does not say how its levels follow each other")

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.patch_embed.patch_size

    def layer_of(self, name: str) -> int:
        """Return how deep a parameter lies; what leads from a stage to the next lies with the last layer of the stage."""
        layers = [found.removesuffix("mixer") for found, m in self.named_modules() if isinstance(m, DirectionalMixer)]
        inside = [number for number, layer in enumerate(layers, start=1) if name.startswith(layer)]
        if inside:
            return inside[0]
        level = [f"{told['module']}." for told in self.feature_info if name.startswith(f"{told['module']}.")]
        if level:
            return max(number for number, layer in enumerate(layers, start=1) if layer.startswith(level[0]))
        return 0 if name.startswith(TOKENS) else len(layers) + 1

    def spatial(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Return the tokens of the grid, without a class token: (B, L, D) to (B, H * W, D)."""
        return tokens

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, C, h, w) of any size to the last level's normalised tokens (B, L, D)."""
        raise TypeError(f"{type(self).__name__} does not say how it computes features")

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool the tokens (B, L, D) and classify: (B, num_classes), or (B, L, num_classes) with global_pool=""."""
        if self.global_pool == "token":
            x = take_token(x, (x.shape[1] - 1) // 2, dim=1).squeeze(1)
        elif self.global_pool == "avg":
            x = x.mean(1)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return (the last level's normalised tokens, feature maps), or the maps alone, as timm's method of this name.

        Where tokens pass from layer to layer in a wider dtype than that of the weights, all are in the latter.
        indices: levels counted from 0, or from the end where negative; a number n takes the last n, None takes all.
        norm: the last level's map passes the last norm. stop_early: levels after the last one asked for do not run.
        Raises ModelError for a level that is not there and for an unknown `output_fmt` ("NCHW" or "NHWC").
        """
        if output_fmt not in FORMATS:
            raise ModelError(f"output_fmt={output_fmt!r} is not accepted; accepted: {', '.join(FORMATS)}")
        wanted, last = take_levels(len(self.feature_info), indices), len(self.feature_info) - 1
        if stop_early and not intermediates_only and max(wanted) < last:
            raise ModelError("stop_early=True needs intermediates_only=True: the last tokens would be missing")
        found: dict[int, Tensor] = {}
        final_norm, x_last, dtype = self.get_submodule(self.last_norm), x, self.patch_embed.proj.weight.dtype
        for level, (tokens, grid) in enumerate(self.tokens_by_level(x)):
            if level == last and (norm or not intermediates_only):
                x_last = narrowed(final_norm(tokens), dtype)
            if level in wanted:
                shown = x_last if norm and level == last else tokens
                found[level] = narrowed(as_map(self.spatial(shown, grid), grid, output_fmt), dtype)
            if stop_early and level == max(wanted):
                break
        maps = [found[level] for level in wanted]
        return maps if intermediates_only else (x_last, maps)

    def check_pool(self, global_pool: str) -> None:
        """Raise ModelError where this network cannot pool its tokens so."""
        raise TypeError(f"{type(self).__name__} does not say how it pools tokens")

    def get_classifier(self) -> nn.Module:
        """Return the classification head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head; num_classes = 0 removes it.

        Raises ModelError for another number of classes, and for a `global_pool` that the family does not have.
        """
        num_classes = plain_numbers(num_classes)
        if type(num_classes) is not int or num_classes < 0:
            raise ModelError(f"num_classes={short(num_classes)} is not accepted; expected a whole number from 0 on")
        if global_pool is not None:
            self.check_pool(global_pool)
            self.global_pool = global_pool
        self.num_classes = num_classes
        like = self.get_parameter(f"{self.last_norm}.weight")
        self.head = nn.Linear(self.num_features, num_classes).to(like) if num_classes > 0 else nn.Identity()

    def freeze(self, levels: int) -> None:
        """Keep the weights of patch embedding, positions and the first `levels` levels as they are, and let all others learn.

        With fewer levels than before the others learn again, with 0 all; what was frozen by `requires_grad_(False)` stays so.
        Alphas stay free: they choose directions and are no weights. Raises ModelError for more levels than there are.
        """
        levels = plain_numbers(levels)
        if type(levels) is not int or not 0 <= levels <= len(self.feature_info):
            raise ModelError(f"frozen_stages={short(levels)} is not accepted; the model has {len(self.feature_info)} levels")
        parameters = dict(self.named_parameters())
        for name in self.frozen_names & parameters.keys():
            parameters[name].requires_grad_(True)
        self.frozen_levels = levels
        kept = (*TOKENS, *(f"{told['module']}." for told in self.feature_info[:levels])) if levels else ()
        weights = {name: p for name, p in parameters.items() if name.startswith(kept) and not name.endswith(".alphas")}
        self.frozen_names = frozenset(name for name, parameter in weights.items() if parameter.requires_grad)
        for name in self.frozen_names:
            parameters[name].requires_grad_(False)
        self.train(self.training)

    def frozen_parts(self) -> list[nn.Module]:
        """Return the modules that `freeze` keeps as they are."""
        levels = [self.get_submodule(told["module"]) for told in self.feature_info[: self.frozen_levels]]
        return [self.patch_embed, *levels] if self.frozen_levels else []

    def train(self, mode: bool = True) -> Backbone:
        """Set training or evaluation mode; what is frozen drops no paths in either."""
        super().train(mode)
        for part in self.frozen_parts():
            part.eval()
        return self


def take_levels(number: int, indices: int | Sequence[int] | None, *, option: str = "indices") -> list[int]:
    """Return the levels that `indices` names, each in range(number); raise ModelError, naming `option`, for one not there."""
    if indices is None:
        return list(range(number))
    given = plain_numbers(indices)
    if type(given) is int:
        given = range(number - given, number) if 1 <= given <= number else [given]
    levels = list(given) if isinstance(given, Iterable) else [given]
    for level in levels:
        if type(level) is not int or not -number <= level < number:
            raise ModelError(f"{option}={short(indices)}: the model has {number} levels; accepted: {-number} to {number - 1}")
    if not levels:
        raise ModelError(f"{option} is empty; name at least one level")
    return [level % number for level in levels]


def narrowed(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x in `dtype` where its own is wider; what autocast made narrower stays so."""
    return x.to(dtype) if torch.promote_types(x.dtype, dtype) == x.dtype else x


def as_map(tokens: Tensor, grid: Grid, output_fmt: str) -> Tensor:
    """Return tokens (B, H * W, D) as a feature map."""
    image = tokens.unflatten(1, grid)  # (B, H, W, D)
    return image if output_fmt == "NHWC" else image.permute(0, 3, 1, 2)
