"""What only gradients tell about a supernet: how sharp the loss is in the alphas, and whether branches memorise.

Nothing here touches `.grad`, and the module is left as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lmsearch.data.batch import Batch
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.objectives import Objective
from lmsearch.engine.train import Precision
from lmsearch.search.supernet.network import arch_parameters, named_mixers

RADIUS = 0.05  # size of the finite-difference step in alpha space: well above float32 noise, well below the alphas' scale
LANCZOS_STEPS = 3  # the largest eigenvalue converges first; its trend matters here, not its digits


Losses = Callable[[], Iterable[Tensor]]  # what adds up to a loss, each part with its graph, of which one is kept at a time


def batch_losses(module: nn.Module, batch: Batch, objective: Objective, precision: Precision) -> Iterator[Tensor]:
    """Yield what adds up to the mean loss of one batch, evaluated (no drop path) in the parts of `precision`."""
    module.eval()
    for part, share in precision.parts(precision.to_device(batch)):
        with precision.autocast():
            outputs = module(part.inputs)
        yield objective.losses(outputs, part.targets).mean() * (share * part.weight)


def gradients_of(losses: Losses, wanted: Sequence[Tensor], *, world: World = SINGLE) -> list[Tensor]:
    """Gradient of a loss, meant over the processes, in each of `wanted`; zero where it does not depend on one."""
    total = [torch.zeros_like(tensor) for tensor in wanted]
    for loss in losses():
        for own, found in zip(total, torch.autograd.grad(loss, wanted, allow_unused=True), strict=True):
            if found is not None:
                own.add_(found)
    world.mean_(total)
    return total


def alpha_gradient(module: nn.Module, losses: Losses, *, world: World = SINGLE) -> np.ndarray:
    """Gradient of the loss in all alphas, end to end; zero for alphas that the loss does not depend on."""
    parts = gradients_of(losses, arch_parameters(module), world=world)
    return torch.cat([p.double().cpu().flatten() for p in parts]).numpy()


def largest_eigenvalue(
    module: nn.Module,
    losses: Losses,
    *,
    seed: int,
    steps: int = LANCZOS_STEPS,
    radius: float = RADIUS,
    world: World = SINGLE,
) -> float:
    """Largest eigenvalue of the Hessian of the loss in the alphas, by Lanczos on central differences of its gradient.

    Costs 2 * steps forward and backward passes; the scan kernels have no second derivative.
    """
    alphas = arch_parameters(module)
    start = [a.detach().clone() for a in alphas]
    size = sum(a.numel() for a in alphas)

    def times(direction: np.ndarray) -> np.ndarray:
        sides: list[np.ndarray] = []
        for sign in (radius, -radius):
            _move(alphas, start, sign * direction)
            sides.append(alpha_gradient(module, losses, world=world))
        slope: np.ndarray = (sides[0] - sides[1]) / (2 * radius)
        return slope

    try:
        return lanczos(times, size, steps=min(steps, size), seed=seed)
    finally:
        _move(alphas, start, np.zeros(size))


def lanczos(times: Callable[[np.ndarray], np.ndarray], size: int, *, steps: int, seed: int) -> float:
    """Largest Ritz value of a symmetric matrix, given as a product with a vector, after `steps` products."""
    vector = np.random.default_rng(seed).standard_normal(size)
    basis, diagonal, off = [vector / np.linalg.norm(vector)], [], []
    for _ in range(steps):
        product = times(basis[-1])
        diagonal.append(float(product @ basis[-1]))
        for known in basis:  # full reorthogonalisation: the basis is small
            product = product - (product @ known) * known
        norm = float(np.linalg.norm(product))
        if norm < 1e-12:
            break
        off.append(norm)
        basis.append(product / norm)
    off = off[: len(diagonal) - 1]
    return float(np.linalg.eigvalsh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)).max())


def branch_cosines(module: nn.Module, train: Losses, holdout: Losses, *, world: World = SINGLE) -> dict[str, dict[str, float]]:
    """Cosine of each branch's training and held-out gradients, over the rows of the parameters that its layer stacks (K, ...).

    Returns {layer: {direction: cosine}}; branches that a loss does not reach are left out.
    """
    mixers = named_mixers(module)
    stacked = {layer: [p for p in mixer.parameters(recurse=False) if p is not mixer.alphas] for layer, mixer in mixers.items()}
    parameters = [p for group in stacked.values() for p in group]
    sides = [gradients_of(losses, parameters, world=world) for losses in (train, holdout)]
    cosines: dict[str, dict[str, float]] = {}
    position = 0
    for layer, group in stacked.items():
        rows = [torch.cat([g.double().flatten(1) for g in s[position : position + len(group)]], 1) for s in sides]
        position += len(group)
        norms = rows[0].norm(dim=1) * rows[1].norm(dim=1)
        values = ((rows[0] * rows[1]).sum(1) / norms).tolist()
        reached = (norms > 0).tolist()
        cosines[layer] = {name: value for name, value, ok in zip(mixers[layer].directions, values, reached, strict=True) if ok}
    return cosines


@torch.no_grad()
def _move(alphas: Sequence[Tensor], start: Sequence[Tensor], offset: np.ndarray) -> None:
    """Set alphas = start + offset, in place."""
    position = 0
    for a, s in zip(alphas, start, strict=True):
        step = torch.from_numpy(offset[position : position + a.numel()]).to(a)
        a.copy_(s + step.view_as(a))
        position += a.numel()
