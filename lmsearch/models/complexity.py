"""What a model costs for one image: parameters, MACs, FLOPs and the bytes that training keeps, per layer and direction.

Convention: a MAC is one multiplication with the addition that follows it, if any; FLOPs are the multiplications, additions
and exponentials, each one. Counted are linear layers, convolutions and scans, every direction with its own convolution,
projections and scan, on the padded grid where windows are padded. Biases, norms, activations and pooling are not counted.
    linear, convolution    1 MAC, 2 FLOPs per weight and token
    scan                   per token, channel and state: delta*A, exp, delta*u*B, decay*h, +, C*h, + (4 MACs, 7 FLOPs);
                           per token and channel: delta*u, D*u, + (2 MACs, 3 FLOPs), and the gate (1 MAC, 1 FLOP)
Activation bytes are the tensors that autograd keeps for the backward pass of the fused scan kernels, which keep their
inputs and one state per chunk of tokens and recompute the rest.
Shapes: L tokens of a layer's grid, P of its padded grid, e inner channels, N states, R dt rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from lmsearch.errors import ModelError, short
from lmsearch.models.dense.count import head_count
from lmsearch.models.dense.net import DenseNet, whole_patches
from lmsearch.models.layers import PatchMerging
from lmsearch.models.local_vim import LocalVim, LocalVimMixer
from lmsearch.models.local_vmamba import LocalVMamba
from lmsearch.models.mixer import DirectionalMixer
from lmsearch.plain import plain_numbers
from lmsearch.scan.directions import parse_direction
from lmsearch.scan.grids import Grid, halved, num_tokens

CHUNK = 32  # tokens per kept state of the native kernels
STATE_MACS, STATE_FLOPS = 4, 7  # of the scan, per token, channel and state
SKIP_MACS, SKIP_FLOPS = 2, 3  # per token and channel


@dataclass(frozen=True)
class Cost:
    """MACs and FLOPs of the forward pass, bytes kept for the backward pass; all for one image."""

    macs: int = 0
    flops: int = 0
    activation_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.flops + other.flops, self.activation_bytes + other.activation_bytes)


@dataclass(frozen=True)
class DirectionCost:
    """One direction of one layer; `tokens` is the length of its scan, pads and class token included."""

    direction: str
    tokens: int
    parameters: int
    conv: Cost
    x_proj: Cost
    dt_proj: Cost
    scan: Cost
    attention: Cost

    @property
    def total(self) -> Cost:
        """The sum of the parts."""
        return self.conv + self.x_proj + self.dt_proj + self.scan + self.attention


@dataclass(frozen=True)
class LayerCost:
    """One layer on its token grid: what its directions share, and each direction. `parameters` are those of the whole layer."""

    name: str
    grid: Grid
    parameters: int
    shared: Cost
    directions: tuple[DirectionCost, ...]

    @property
    def total(self) -> Cost:
        """Shared parts and all directions."""
        return sum((d.total for d in self.directions), self.shared)


@dataclass(frozen=True)
class Complexity:
    """A model at one image size (height, width); `rest` is patch embedding, merging between stages and head."""

    img_size: tuple[int, int]
    parameters: int
    rest: Cost
    layers: tuple[LayerCost, ...]

    @property
    def total(self) -> Cost:
        """The whole model."""
        return sum((layer.total for layer in self.layers), self.rest)


@dataclass(frozen=True)
class Kept:
    """What the kernels keep: values of `size` bytes, a state per `chunk` tokens, delta of all channels or its low rank only."""

    size: int
    chunk: int
    delta: bool


def complexity(
    model: nn.Module,
    img_size: int | tuple[int, int] | None = None,
    *,
    bytes_per_value: int = 4,
    chunk: int = CHUNK,
    keeps_delta: bool = False,
) -> Complexity:
    """Count a LocalVim or LocalVMamba (also on the meta device) for one image of `img_size` pixels, without running it.

    Of one with a dense head, the head and what it sees are part of `rest`, and images are padded to whole patches.

    img_size: side or (height, width); None takes the size that the model was built for, to whole patches.
    bytes_per_value: 4 in float32, 2 where training runs in bfloat16 or float16 throughout.
    chunk: tokens per kept state: 32 in the native kernels, 8 in the Triton ones.
    keeps_delta: the scans are given delta of all channels and keep it, as the Triton ones; the native ones keep its low rank.
    Raises ModelError for another kind of model, a size that is none, and for a head whose work depends on what it sees.
    """
    if isinstance(model, DenseNet):
        return _dense(model, img_size, Kept(bytes_per_value, chunk, keeps_delta))
    if not isinstance(model, (LocalVim, LocalVMamba)):
        raise ModelError(f"{type(model).__name__} cannot be counted; accepted: LocalVim, LocalVMamba")
    height, width = (side * model.patch_embed.patch_size for side in model.grid)
    size = _sides(img_size) or (height, width)
    if min(size) < 1 or min(model.patch_embed.grid(size)) < 1:
        raise ModelError(f"img_size={size[0]}x{size[1]} is smaller than one patch of {model.patch_embed.patch_size} pixels")
    mixers = {n.removesuffix(".mixer"): m for n, m in model.named_modules() if isinstance(m, DirectionalMixer)}
    cls = isinstance(model, LocalVim) and model.cls_token is not None
    layers = tuple(
        _layer(name, model.get_submodule(name), mixer, grid, kept=Kept(bytes_per_value, chunk, keeps_delta), cls=cls)
        for (name, mixer), grid in zip(mixers.items(), model.layer_grids(size), strict=True)
    )
    return Complexity(size, _parameters(model), _rest(model, size, bytes_per_value), layers)


def _sides(img_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    sides = plain_numbers(img_size)
    sides = (sides, sides) if isinstance(sides, int) else sides
    if sides is None:
        return None
    if not isinstance(sides, Sequence) or [type(side) for side in sides] != [int, int]:
        raise ModelError(f"img_size={short(img_size)} is not accepted; expected one side, or (height, width), in pixels")
    return sides[0], sides[1]


def _dense(net: DenseNet, img_size: int | tuple[int, int] | None, kept: Kept) -> Complexity:
    size = _sides(img_size)
    padded = None if size is None else whole_patches(size, net.patch_size)
    of = complexity(net.backbone, padded, bytes_per_value=kept.size, chunk=kept.chunk, keeps_delta=kept.delta)
    macs, values = head_count(net, size or of.img_size)
    layers = tuple(replace(layer, name=f"backbone.{layer.name}") for layer in of.layers)
    return Complexity(size or of.img_size, _parameters(net), of.rest + Cost(macs, 2 * macs, values * kept.size), layers)


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _linear(tokens: int, inputs: int, outputs: int, kept: int = 0) -> Cost:
    return Cost(tokens * inputs * outputs, 2 * tokens * inputs * outputs, kept)


def _layer(name: str, block: nn.Module, mixer: DirectionalMixer, grid: Grid, *, cls: bool, kept: Kept) -> LayerCost:
    tokens = num_tokens(grid) + cls
    d, e = mixer.in_proj.in_features, mixer.d_inner
    vim = isinstance(mixer, LocalVimMixer)
    scanned = Counter(_padded(mixer, direction, grid) for direction in mixer.directions)  # grid -> its directions
    copies = 0
    for padded, count in scanned.items():
        if padded != grid:  # padded x, and z where it is gated inside
            copies += (num_tokens(padded) + cls) * mixer.d_scan * (2 if vim else 1)
        if not vim and kept.delta:
            copies += count * mixer.dt_rank * mixer.d_scan  # the weights of the batched projection, repeated for every sample
    shared = _linear(tokens, d, 2 * e) + _linear(tokens, e, d)
    if vim:  # kept: norm and in_proj inputs, x and z, out_proj input
        own = 2 * tokens * d + 2 * tokens * e + tokens * e
    else:  # also: conv output and its silu; the norm's input and output and silu(z) after the merge
        shared += _linear(tokens, e, mixer.get_parameter("conv.weight")[0].numel())
        own = 2 * tokens * d + 2 * tokens * e + 2 * tokens * e + 4 * tokens * e
    shared += Cost(activation_bytes=(own + copies) * kept.size)
    directions = tuple(_direction(mixer, d, grid, cls=cls, kept=kept) for d in mixer.directions)
    return LayerCost(name, grid, _parameters(block), shared, directions)


def _padded(mixer: DirectionalMixer, direction: str, grid: Grid) -> Grid:
    return parse_direction(direction).padded_grid(grid) if mixer.options.window_padding == "zeros" else grid


def _direction(mixer: DirectionalMixer, direction: str, grid: Grid, *, cls: bool, kept: Kept) -> DirectionCost:
    size = kept.size
    scanned, tokens = num_tokens(_padded(mixer, direction, grid)) + cls, num_tokens(grid) + cls
    e, n, r = mixer.d_scan, mixer.d_state, mixer.dt_rank
    vim = isinstance(mixer, LocalVimMixer)
    taps = mixer.conv_weight.shape[-1] if isinstance(mixer, LocalVimMixer) else 0
    conv = _linear(scanned, e, taps, scanned * e * size if vim else 0)  # keeps u
    x_proj = _linear(scanned, e, r + 2 * n, scanned * (r + 2 * n) * size)
    dt_proj = _linear(scanned, r, e, scanned * e * size if kept.delta else 0)
    values, states = scanned * e, -(-scanned // kept.chunk) * e * n
    scan = Cost(
        values * (n * STATE_MACS + SKIP_MACS + vim),
        values * (n * STATE_FLOPS + SKIP_FLOPS + vim),
        (tokens * e + states) * size,
    )
    stacked = (mixer.x_proj_weight, mixer.dt_proj_weight, mixer.dt_proj_bias, mixer.A_log, mixer.D)
    own = sum(p[0].numel() for p in stacked) + (e * (taps + 1) if vim else 0) + (mixer.alphas is not None)
    return DirectionCost(direction, scanned, own, conv, x_proj, dt_proj, scan, _attention(mixer, tokens, size))


def _attention(mixer: DirectionalMixer, tokens: int, size: int) -> Cost:
    """Gates and merge of one branch: global parts once, local parts per token."""
    e, cost, kept = mixer.d_scan, Cost(), 0
    if mixer.attn is not None:
        q = mixer.attn.channel_select.in_features
        cost += _linear(1, e, q) + _linear(1, q, e)
        if mixer.attn.local_reduce is not None:
            cost += _linear(tokens, e, q) + _linear(tokens, q, 1) + _linear(1, q, 1)
            kept += 2 * tokens * e + 2 * tokens * q + tokens
        kept += 2 * tokens  # mean and deviation of every token
    if mixer.alphas is not None:
        gated = mixer.attn is not None and mixer.attn.local_reduce is not None
        kept += 2 * tokens + (tokens * e if gated else 0)  # mean and deviation; the branch after its gates
        cost += _linear(tokens, e, 1)
    return cost + Cost(activation_bytes=kept * size)


def _rest(model: LocalVim | LocalVMamba, img_size: tuple[int, int], size: int) -> Cost:
    grid, conv = model.patch_embed.grid(img_size), model.patch_embed.proj
    tokens, dim = num_tokens(grid), conv.out_channels
    whole = tuple(side * model.patch_embed.patch_size for side in grid) if model.patch_embed.pad else img_size
    pixels = num_tokens((whole[0], whole[1]))
    cost = _linear(tokens, conv.weight[0].numel(), dim, pixels * conv.in_channels * size)
    for look in (m for m in model.patch_embed.stem.modules() if isinstance(m, nn.Conv2d)):  # kept: image, and output before GELU
        cost += _linear(pixels, look.weight[0].numel(), look.out_channels, pixels * (look.in_channels + look.out_channels) * size)
    if isinstance(model, LocalVMamba):
        cost += Cost(activation_bytes=tokens * dim * size)  # the patch norm's input
    for merging in (m for m in model.modules() if isinstance(m, PatchMerging)):
        grid, merged = halved(grid), merging.reduction.in_features
        cost += _linear(num_tokens(grid), merged, merged // 2, 2 * num_tokens(grid) * merged * size)
    cost += Cost(activation_bytes=num_tokens(grid) * model.num_features * size)  # the last norm's input
    positions = 1 if model.global_pool else num_tokens(grid)
    return cost + _linear(positions, model.num_features, model.num_classes, positions * model.num_features * size)


@dataclass(frozen=True)
class MacCount:
    """MACs in three parts: convolution and projections of the directions, their scans, and everything else."""

    projections: int
    scan: int
    other: int

    @property
    def total(self) -> int:
        """All three."""
        return self.projections + self.scan + self.other


def own_count(report: Complexity) -> MacCount:
    """Split the MACs of a report."""
    directions = [d for layer in report.layers for d in layer.directions]
    projections = sum(d.conv.macs + d.x_proj.macs + d.dt_proj.macs for d in directions)
    scan = sum(d.scan.macs for d in directions)
    return MacCount(projections, scan, report.total.macs - projections - scan)


def released_count(model: LocalVim | LocalVMamba, report: Complexity, *, norms: bool = True) -> MacCount:
    """Count `model` as the released code does, whose "FLOPs" are MACs with a scan formula of each family.

    LocalVim: conv1d, x_proj, dt_proj and attention once per layer instead of once per direction; scan 5N + 2 per token and
    channel; norms 1 per value. LocalVMamba: every direction at the longest padded length; scan 9N + 1; LayerNorms 5. Without
    `norms` they count nothing, as in VMamba's own code.
    """
    mixers = [m for m in model.modules() if isinstance(m, DirectionalMixer)]
    projections, scan, other = 0, 0, report.rest.macs
    for layer, mixer in zip(report.layers, mixers, strict=True):
        e, n, d, k = mixer.d_inner, mixer.d_state, mixer.in_proj.in_features, len(layer.directions)
        first = layer.directions[0]
        other += layer.shared.macs
        if isinstance(mixer, LocalVimMixer):
            projections += first.conv.macs + first.x_proj.macs + first.dt_proj.macs
            scan += sum(c.tokens * e * (5 * n + 2) for c in layer.directions)
            other += first.attention.macs + norms * first.tokens * d
        else:
            longest, tokens = max(c.tokens for c in layer.directions), num_tokens(layer.grid)
            projections += k * longest * e * (2 * mixer.dt_rank + 2 * n)
            scan += k * longest * e * (9 * n + 1)
            other += sum(c.attention.macs for c in layer.directions) + norms * 5 * tokens * (d + (k + 1) * e)
    return MacCount(projections, scan, other)
