"""The supernet: an ordinary model whose every layer holds all its candidates. Works on any module that contains mixers.

Shapes: K candidates of a layer; alphas (K,) raw logits.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmsearch.errors import ModelError
from lmsearch.models import DirectionalMixer
from lmsearch.models.branch_memory import BranchMemory
from lmsearch.scan.directions import duplicates
from lmsearch.scan.grids import Grid
from lmsearch.search.supernet.relax import Relaxation
from lmsearch.search_space import SearchSpace


@dataclass(frozen=True)
class Branches:
    """What one mixer runs in one forward pass: indices into its directions, and their weights (softmax of alphas if None)."""

    active: tuple[int, ...]
    weights: Tensor | None = None


def named_mixers(module: nn.Module) -> dict[str, DirectionalMixer]:
    """Return every mixer that holds alphas by layer name, such as "layers.0", in forward order."""
    mixers = {
        name.removesuffix(".mixer"): m
        for name, m in module.named_modules()
        if isinstance(m, DirectionalMixer) and m.alphas is not None
    }
    if not mixers:
        raise ModelError("the model is not a supernet: none of its mixers has merge='weighted'")
    return mixers


def arch_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the alphas of every layer."""
    return [m.supernet_alphas for m in named_mixers(module).values()]


def weight_parameters(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return (name, parameter) of everything that is not an alpha, nor frozen: no parameter is in both groups."""
    alphas = {id(p) for p in arch_parameters(module)}
    return [(name, p) for name, p in module.named_parameters() if id(p) not in alphas and p.requires_grad]


def alive(alphas: Tensor) -> tuple[int, ...]:
    """Return the indices of the branches that were not dropped: those whose alpha is not minus infinity."""
    return tuple((~torch.isneginf(alphas.detach())).nonzero().flatten().tolist())


def probabilities(module: nn.Module, relaxation: Relaxation) -> dict[str, dict[str, float]]:
    """Return the relaxation's probabilities of every layer as {layer: {direction: probability}}; dropped branches have 0."""
    return {name: layer_probabilities(m.supernet_alphas, m.directions, relaxation) for name, m in named_mixers(module).items()}


def layer_probabilities(alphas: Tensor, directions: Sequence[str], relaxation: Relaxation) -> dict[str, float]:
    """Return {direction: probability} of one layer; minus infinity marks a dropped branch."""
    alphas = alphas.detach().double()
    left = ~torch.isneginf(alphas)
    values = torch.zeros_like(alphas)
    values[left] = relaxation.probabilities(alphas[left]).clamp_min(sys.float_info.min)  # 0 is for dropped ones only
    return dict(zip(directions, values.tolist(), strict=True))


def layer_candidates(
    space: SearchSpace, grids: Sequence[Grid], *, padding: str, deduplicate: bool
) -> tuple[tuple[str, ...], ...]:
    """Return each layer's candidates; with `deduplicate`, one of every set that visits the layer's grid in the same order."""
    listed = space.candidates_on(grids)
    if not deduplicate:
        return listed
    same = [duplicates(names, grid, padding=padding) for names, grid in zip(listed, grids, strict=True)]
    return tuple(tuple(d for d in names if d not in twins) for names, twins in zip(listed, same, strict=True))


@contextmanager
def running(
    module: nn.Module, choice: Mapping[str, Branches], memory: Mapping[str, BranchMemory] | None = None
) -> Iterator[nn.Module]:
    """Within this context the named layers run only the given branches; nothing in the module is changed.

    The choice travels as arguments of each mixer's call, injected by a hook, so it also reaches mixers inside a user's network.
    `memory` (of every layer) keeps what the mixers run from one context to the next.
    """
    mixers = named_mixers(module)
    with ExitStack() as stack:
        for layer in choice if memory is None else memory:
            extra: dict[str, object] = {} if memory is None else {"memory": memory[layer]}
            if layer in choice:
                extra |= {"active": choice[layer].active, "weights": choice[layer].weights}
            handle = mixers[layer].register_forward_pre_hook(
                lambda _, args, kwargs, extra=extra: (args, kwargs | extra), with_kwargs=True
            )
            stack.callback(handle.remove)
        yield module


def masked(module: nn.Module, directions: Mapping[str, Sequence[str]]) -> dict[str, Branches]:
    """Return the branches of a genotype inside the supernet: the named directions of each layer, equally weighted."""
    choice = {}
    for layer, mixer in named_mixers(module).items():
        active = tuple(mixer.directions.index(d) for d in directions[layer])
        choice[layer] = Branches(active, torch.full((len(active),), 1 / len(active), device=mixer.supernet_alphas.device))
    return choice


def remaining(module: nn.Module, layer: str, names: Sequence[str], scores: Mapping[str, float]) -> Branches:
    """Return the branches `names` of a layer, weighted by their probabilities scaled to sum to 1."""
    mixer = named_mixers(module)[layer]
    weights = torch.tensor([scores[name] for name in names], device=mixer.supernet_alphas.device)
    if weights.sum() == 0:  # too small for single precision, where another direction has all of the probability
        largest = max(scores[name] for name in names)
        weights = torch.tensor([scores[name] / largest for name in names], device=weights.device)
    return Branches(tuple(mixer.directions.index(name) for name in names), weights / weights.sum())
