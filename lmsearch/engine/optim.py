"""Optimizer groups, the learning-rate schedule as a pure function of the step, and the running average of weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lmsearch.errors import ConfigError
from lmsearch.models import Network

SCALE = "lr_scale"  # key of a group: what the learning rate of a step is multiplied by, as timm calls it
MARK = "_no_weight_decay"  # attribute of parameters that Mamba's code does not decay, its A and D; lost in a deepcopy
COMPUTED = ("fused", "foreach", "capturable", "differentiable")  # of an optimizer: how its steps are computed

Group = dict[str, Any]  # of an optimizer


@dataclass(frozen=True)
class Cosine:
    """Cosine from `lr` to `min_lr` over all steps; the first `warmup_steps` rise linearly from `warmup_lr` instead.

    With `warmup_prefix` the cosine begins where the warm-up ends and takes the steps that are left, as LocalMamba's code has it.
    Its warm-up keeps one rate for an epoch, that of the epoch's first step here.
    """

    lr: float
    min_lr: float
    warmup_lr: float
    warmup_steps: int
    total_steps: int
    warmup_prefix: bool = False

    def __call__(self, step: int) -> float:
        """Return the learning rate of step 0, 1, ..., total_steps - 1."""
        if step < self.warmup_steps:
            return self.warmup_lr + (self.lr - self.warmup_lr) * (step + 1) / self.warmup_steps
        before = self.warmup_steps if self.warmup_prefix else 0
        progress = (step - before) / max(self.total_steps - before, 1)
        return self.min_lr + 0.5 * (self.lr - self.min_lr) * (1 + math.cos(math.pi * progress))


def undecayed(module: nn.Module) -> set[str]:
    """Return the full names of marked parameters, and of what the module and its parts name in `no_weight_decay`."""
    names = {name for name, parameter in module.named_parameters() if getattr(parameter, MARK, False)}
    for prefix, part in module.named_modules():
        ask = getattr(part, "no_weight_decay", None)
        if callable(ask):
            names |= {f"{prefix}.{name}" if prefix else name for name in ask()}
    return names


def decay_groups(
    named: Iterable[tuple[str, Tensor]],
    weight_decay: float,
    *,
    skip: Collection[str] = (),
    scales: Mapping[str, float] | None = None,
) -> list[Group]:
    """Split parameters in two groups: those with one axis and those named in `skip` are not decayed. Frozen ones are left out.

    `scales` multiply the learning rate of every parameter by name, which makes two groups for each scale, the largest first.
    """
    split: dict[float | None, tuple[list[Tensor], list[Tensor]]] = {} if scales else {None: ([], [])}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        decayed, free = split.setdefault(scales[name] if scales else None, ([], []))
        (free if parameter.dim() <= 1 or name in skip else decayed).append(parameter)
    groups = []
    for scale, parts in sorted(split.items(), key=lambda item: -(item[0] or 0.0)):
        own: Group = {} if scale is None else {SCALE: scale}
        groups += [{"params": part, "weight_decay": decay} | own for part, decay in zip(parts, (weight_decay, 0.0), strict=True)]
    return groups


def layer_scales(module: nn.Module, decay: float) -> dict[str, float] | None:
    """Return decay ** (layers above it) of every parameter by name: 1 after the last layer; None where decay is 1.

    Layer-wise decay of the learning rate, as in BEiT (arXiv 2106.08254). Raises ConfigError for a network that does not tell
    its layers.
    """
    if decay == 1.0:
        return None
    if not isinstance(module, Network):
        raise ConfigError(f"optim.layer_decay={decay:g} needs a network of lmsearch, which tells its layers")
    last = len(module.mixers()) + 1
    return {name: decay ** (last - module.layer_of(name)) for name, _ in module.named_parameters()}


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load an optimizer's state, but for how it computes its steps: that is of this process, not of the one that saved.

    Raises ValueError where what it remembers of a parameter has another shape, or is no fraction.
    """
    groups = [
        stored | {name: own[name] for name in COMPUTED if name in own}
        for stored, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, remembered in state["state"].items():
        for name, value in remembered.items():
            if (
                not isinstance(value, Tensor)
                or not value.is_floating_point()
                or (name != "step" and value.shape != own[number].shape)
            ):
                raise ValueError(f"{name} of parameter {number} does not fit it")
    optimizer.load_state_dict({**state, "param_groups": groups})
    for parameter, remembered in optimizer.state.items():
        remembered |= {n: laid_as(parameter, value) for n, value in remembered.items() if value.shape == parameter.shape}


def is_dense(tensor: Tensor) -> bool:
    """Tell whether a tensor has its memory to itself, in whatever order: what PyTorch lays out like it has its strides then."""
    return torch.empty_like(tensor, device="meta").stride() == tensor.stride()


def laid_as(parameter: Tensor, value: Tensor) -> Tensor:
    """Return a value of a parameter's shape in the order of its memory, by which fused steps go."""
    return value if value.stride() == parameter.stride() else torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def adamw(
    named: Iterable[tuple[str, Tensor]],
    *,
    lr: float,
    weight_decay: float,
    betas: Sequence[float],
    skip: Collection[str] = (),
    scales: Mapping[str, float] | None = None,
) -> torch.optim.AdamW:
    """AdamW (eps 1e-8) over the groups of `decay_groups`.

    Fused, unless a parameter is a part of a larger tensor, as a cropped weight: on the CPU a fused step would move others.
    """
    beta1, beta2 = betas
    groups = decay_groups(named, weight_decay, skip=skip, scales=scales)
    fused = all(is_dense(parameter) for group in groups for parameter in group["params"])
    return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2), fused=fused)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group of `optimizer` the learning rate `lr`, times its own scale where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(SCALE, 1.0)


class MovingAverage(AveragedModel):
    """PyTorch's, to the bit, but that whole numbers are those of the model.

    PyTorch averages them too, which changes an order of tokens that a buffer holds. And a counter is not sent to the device in
    every step, where nobody reads it.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.move = get_ema_multi_avg_fn(decay)
        super().__init__(model, multi_avg_fn=self.move, use_buffers=True)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average one step towards the weights of `model`, on the same device; the first step takes them over."""
        kinds: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for mine, its in zip(tensors_of(self.module), tensors_of(model), strict=True):
            averaged, current = kinds.setdefault(mine.dtype, ([], []))
            averaged.append(mine.detach())
            current.append(its.detach())
        first = not self.n_averaged  # on the CPU
        for kind, (averaged, current) in kinds.items():
            if first or not kind.is_floating_point:
                torch._foreach_copy_(averaged, current)
            else:
                self.move(averaged, current, 0)
        self.n_averaged += 1


def tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """Yield what is averaged: parameters and buffers."""
    return chain(module.parameters(), module.buffers())


def moving_average(model: nn.Module, decay: float) -> MovingAverage:
    """Exponential moving average of the weights of `model`: update with `update_parameters(model)` after each step."""
    return MovingAverage(model, decay)
