"""The mixer, the unit of search: K selective scans of one token grid along K directions, gated and merged into one.

A mixer owns its candidate `directions`. Each call may restrict it to some `active` branches and hand in their
`weights`, so that samplers, masks and leave-one-out tests need neither flags nor mutation.
Shapes: B batch, L tokens, D = d_inner channels, N states, R dt rank, K directions; tokens in raster order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmsearch.errors import ModelError, NoAlphasError, short
from lmsearch.kernels import directional_scan
from lmsearch.kernels.ops import Backend
from lmsearch.models.any_grid import computed_order, is_open
from lmsearch.models.attention import KINDS, build_attention
from lmsearch.models.branch_memory import BranchMemory
from lmsearch.models.merge import MERGES, Gates, merge_sum, merge_weighted, present_merge
from lmsearch.models.scan_groups import PADDINGS, ScanGroup, collect, order_tensor, row_index, scan_groups, take
from lmsearch.models.tracing import GraphInputs, compiled, plain_grid
from lmsearch.plain import plain_numbers
from lmsearch.scan.directions import label, parse_direction
from lmsearch.scan.grids import Grid, grid_text, num_tokens


@dataclass(frozen=True)
class MixerOptions:
    """How every mixer of a model is built: merge "sum" | "weighted", attention "channel" | "spatial_channel" | "none",
    window_padding "none" | "zeros", the scan backend of lmsearch.kernels or operators in its place, and whether "weighted"
    normalises its branches.

    With partial_channels = M only the first 1 / M of the channels are scanned and the others pass by (PC-DARTS, arXiv
    1907.05737): for supernets; with M = 4 they need about a third of the memory.
    """

    merge: str = "sum"
    attention: str = "channel"
    window_padding: str = "none"
    backend: Backend = "auto"
    expand: int = 2
    d_state: int = 16
    branch_norm: bool = True
    partial_channels: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "merge", present_merge(self.merge))
        for name, accepted in (("merge", MERGES), ("attention", KINDS), ("window_padding", PADDINGS)):
            if (value := getattr(self, name)) not in accepted:
                raise ModelError(f"{name}={value!r} is not accepted; accepted: {', '.join(accepted)}")
        for name in ("expand", "d_state", "partial_channels"):
            object.__setattr__(self, name, number := plain_numbers(getattr(self, name)))
            if type(number) is not int or number < 1:
                raise ModelError(f"{name}={short(number)} is not accepted; expected a whole number from 1 on")


@dataclass(frozen=True)
class Tokens:
    """What every branch of a mixer takes: the tokens x and the gate z of each scan, if it has one, both (B, L, D)."""

    x: Tensor
    z: Tensor | None = None


class DirectionalMixer(nn.Module):
    """What both families share: K stacked selective state-space models, attention and merge.

    With merge="weighted" the mixer holds `alphas` (K,) and returns the softmax(alphas)-weighted sum of its normalised
    branches; with merge="sum" their plain sum. PER_DIRECTION names the tensors (K, ...) whose row k belongs to directions[k].
    """

    PER_DIRECTION: tuple[str, ...] = ("x_proj_weight", "dt_proj_weight", "dt_proj_bias", "A_log", "D", "alphas")

    def __init__(self, d_model: int, directions: Sequence[str], options: MixerOptions) -> None:
        super().__init__()
        if not directions:
            raise ModelError("a mixer needs at least one scan direction")
        self.directions = tuple(parse_direction(d).name for d in directions)
        self.options, self.graph_inputs = options, GraphInputs()
        self.grad_checkpointing, self.compiled = False, False  # of training
        self.d_inner, self.dt_rank, self.d_state = options.expand * d_model, math.ceil(d_model / 16), options.d_state
        if self.d_inner % options.partial_channels:
            raise ModelError(f"partial_channels={options.partial_channels} does not divide the {self.d_inner} inner channels")
        self.d_scan = self.d_inner // options.partial_channels  # channels that the directions scan
        k, d, d_state = len(self.directions), self.d_scan, options.d_state

        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.x_proj_weight = nn.Parameter(torch.empty(k, self.dt_rank + 2 * d_state, d))
        self.dt_proj_weight = nn.Parameter(torch.empty(k, d, self.dt_rank))
        self.dt_proj_bias = nn.Parameter(torch.empty(k, d))
        self.A_log = nn.Parameter(torch.empty(k, d, d_state))
        self.D = nn.Parameter(torch.empty(k, d))
        self.attn = build_attention(options.attention, d)
        self.alphas = nn.Parameter(torch.empty(k)) if options.merge == "weighted" else None
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self.reset_ssm_parameters()

    def reset_ssm_parameters(self) -> None:
        """S4D-real A, D = 1, and steps such that softplus(dt bias) is log-uniform in [0.001, 0.1] (Mamba's init)."""
        for weight in self.x_proj_weight:  # each as a Linear of its own
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj_weight, -bound, bound)
        if self.A_log.is_meta:
            return  # without values; arithmetic on meta tensors imports PyTorch's compiler, seconds of a start
        with torch.no_grad():
            dt = torch.exp(torch.empty_like(self.dt_proj_bias).uniform_(math.log(1e-3), math.log(0.1))).clamp_min(1e-4)
            self.dt_proj_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus
            self.A_log.copy_(torch.log(torch.arange(1.0, self.d_state + 1)).expand_as(self.A_log))
        nn.init.ones_(self.D)
        if self.alphas is not None:
            nn.init.normal_(self.alphas, std=1e-3)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the vectors that are stacked over directions, which stay undecayed as other vectors do."""
        return {"dt_proj_bias", "D"}

    def extra_repr(self) -> str:
        return f"directions={[label(d) for d in self.directions]}, {self.options}"

    @property
    def supernet_alphas(self) -> nn.Parameter:
        """The alphas (K,); raises NoAlphasError for a mixer of a derived net, which has none."""
        if self.alphas is None:
            raise AttributeError  # upon which Python asks __getattr__
        return self.alphas

    def __getattr__(self, name: str) -> Any:
        """Return a parameter, buffer or part, or say why there are no alphas."""
        if name == "supernet_alphas":
            raise NoAlphasError("a mixer with merge='sum' has no alphas; a supernet's has merge='weighted'")
        return super().__getattr__(name)

    def branch_weights(self, active: tuple[int, ...]) -> Tensor:
        """softmax of the active branches' alphas, (len(active),)."""
        alphas = self.supernet_alphas
        wide = torch.promote_types(alphas.dtype, torch.float32)
        return torch.softmax(take(alphas, row_index(self.graph_inputs, active, alphas.device)).to(wide), dim=0)

    def entered(self, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Tokens x (B, L, d_model) to what the directions scan and to the gate, each (B, L, d_inner)."""
        raise TypeError("use LocalVimMixer or LocalVMambaMixer")

    def convolved(self, x: Tensor, group: ScanGroup, rows: slice | Tensor) -> Tensor:
        """What the scans of a group take of its tokens x (B, P, D): these, or (B, K, P, D) of a convolution along each order."""
        return x

    def merged(self, o: Tensor, gates: Gates, weights: Tensor | None) -> Tensor:
        """Merge branches (B, K, L, D) with their gates into (B, L, D)."""
        norm, backend = self.options.branch_norm, self.options.backend
        if weights is None:
            return merge_sum(o, gates, backend=backend)
        return merge_weighted(o, gates, weights, branch_norm=norm, backend=backend)

    def left(self, y: Tensor, gate: Tensor) -> Tensor:
        """The merged branches y (B, L, d_inner) and the gate to the result (B, L, d_model)."""
        return self.out_proj(y)

    def order_of(self, group: ScanGroup, device: torch.device) -> Tensor:
        """The order table of a group as a tensor of integers (K, P) on `device`."""
        if is_open(group.padded):
            return computed_order(group.directions, group.padded, device, group.cls_index)
        return order_tensor(self.graph_inputs, group.directions, group.padded, group.cls_index, device)

    def scan_arguments(self, tokens: Tokens, group: ScanGroup, active: tuple[int, ...]) -> dict[str, Any]:
        """What `directional_scan` takes for a group of the active branches."""
        rows = row_index(self.graph_inputs, tuple([active[k] for k in group.branches]), tokens.x.device)
        z = None if tokens.z is None else group.pad(tokens.z)
        u, sizes = self.convolved(group.pad(tokens.x), group, rows), (self.dt_rank, self.d_state, self.d_state)
        if u.dim() == 4 and is_open(group.padded):  # a graph for any size must not depend on how u lies in memory
            low_rank = torch.matmul(u, take(self.x_proj_weight, rows).mT)
        elif u.dim() == 4:  # one product per direction over the tokens of all images, as u lies in memory
            low_rank = torch.bmm(u.transpose(0, 1).flatten(1, 2), take(self.x_proj_weight, rows).mT)  # (K, B * P, R + 2N)
            low_rank = low_rank.unflatten(1, (u.shape[0], u.shape[2])).transpose(0, 1)  # (B, K, P, R + 2N)
        else:
            low_rank = torch.einsum("bld,krd->bklr", u, take(self.x_proj_weight, rows))
        delta, B, C = low_rank.split(sizes, dim=-1)
        A = -torch.exp(take(self.A_log, rows).to(torch.promote_types(self.A_log.dtype, torch.float32)))
        return {
            "x": u, "delta": delta, "A": A, "B": B, "C": C, "D": take(self.D, rows), "z": z,
            "order": self.order_of(group, u.device),
            "delta_weight": take(self.dt_proj_weight, rows), "delta_bias": take(self.dt_proj_bias, rows), "delta_softplus": True,
            "backend": self.options.backend,
        }  # fmt: skip

    def split(self, x: Tensor, gate: Tensor) -> tuple[Tokens, Tensor]:
        """What is scanned of x (B, L, d_inner), and what passes by; the gate has no part inside a direction."""
        x, by = x.split((self.d_scan, self.d_inner - self.d_scan), dim=-1)
        return Tokens(x), by

    def forward(
        self,
        x: Tensor,
        grid: Grid,
        *,
        cls_index: int | None = None,
        active: Sequence[int] | None = None,
        weights: Tensor | None = None,
        memory: BranchMemory | None = None,
        recompute: bool | None = None,
    ) -> Tensor:
        """x (B, L, d_model) -> (B, L, d_model); `active` branch indices and their `weights` (len(active),) are optional.

        Raises ModelError where x does not hold the tokens of `grid`, and the class token that `cls_index` says.
        `recompute` keeps only x for the backward pass, which computes the rest again; None: as `grad_checkpointing` says. False
        also asks for no compiler, which may run this as it is.
        """
        if recompute is not False:
            told: dict[str, Any] = {"cls_index": cls_index, "active": active, "weights": weights, "recompute": False}
            compiling = self.compiled and self.training and memory is None and not torch.compiler.is_compiling()
            run = compiled(DirectionalMixer.forward) if compiling else DirectionalMixer.forward
            if recompute or (self.grad_checkpointing and self.training):
                return checkpoint(run, self, x, grid, use_reentrant=False, **told)
            if compiling:
                return run(self, x, grid, **told)
        if memory is not None and (known := memory.recall(x, active, weights)) is not None:
            return known
        grid = plain_grid(grid)
        if not is_open(grid) and x.shape[1] != num_tokens(grid) + (cls_index is not None):
            beside = "" if cls_index is None else " and a class token"
            raise ModelError(f"x has {x.shape[1]} tokens; expected the {num_tokens(grid)} of a grid of {grid_text(grid)}{beside}")
        inner, gate = self.entered(x, grid)  # each (B, L, d_inner)
        tokens, by = self.split(inner, gate)
        active = tuple(range(len(self.directions)) if active is None else active)
        if weights is None and self.alphas is not None:
            weights = self.branch_weights(active)
        new = active if memory is None else memory.unknown(active)
        groups = scan_groups(tuple(self.directions[k] for k in new), grid, self.options.window_padding, cls_index)
        outputs = []
        for group in groups:
            outputs.append(group.crop(directional_scan(**self.scan_arguments(tokens, group, new))))  # (B, Kg, L, D)
        if memory is None:
            o, gates = self.attended(collect(outputs, groups))
        else:
            o, gates = memory.branches(active, new, *(self.attended(collect(outputs, groups)) if new else (None, (None, None))))
        y = self.merged(o, gates, weights)
        y = y if self.d_scan == self.d_inner else torch.cat([y, by.to(y.dtype)], dim=-1)
        y = self.left(y, gate)
        return y if memory is None else memory.keep(y)

    def attended(self, o: Tensor) -> tuple[Tensor, Gates]:
        """Branches (B, K, L, D) with the gates that attention gives them."""
        return o, (None, None) if self.attn is None else self.attn(o, backend=self.options.backend)


def recompute_mixers(module: nn.Module, enable: bool = True) -> None:
    """Let the backward pass of training compute every mixer of a network again, or keep its activations."""
    for mixer in module.modules():
        if isinstance(mixer, DirectionalMixer):
            mixer.grad_checkpointing = enable


def compile_mixers(module: nn.Module) -> None:
    """Let training run what torch.compile makes of the mixers of a network."""
    for mixer in module.modules():
        if isinstance(mixer, DirectionalMixer):
            mixer.compiled = True
