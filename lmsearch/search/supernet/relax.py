"""Relaxations: from the alphas of one layer to what it runs in one step. Pure functions, one idea each.

Shapes: alphas (A,) raw logits of the branches that are still alive; noise (A,) or None; picked: positions in range(A);
weights (len(picked),), or (A,) where every branch runs. In the forward pass weights always sum to 1, so that a layer keeps
its scale whichever branches it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lmsearch.errors import ConfigError, did_you_mean, short
from lmsearch.models.scan_groups import row_index, take
from lmsearch.models.tracing import GraphInputs
from lmsearch.search.contract import check_contract

Picked = tuple[int, ...]
TRIED = 3  # alphas on which a relaxation of one's own is tried
ZERO_ONE_WEIGHT = 0.1  # of the sigmoid's 0-1 loss
KL_WEIGHT = 1e-3  # of the Dirichlet's divergence from the uniform one (DrNAS)


@dataclass(frozen=True)
class Relaxation:
    """How alphas become branch weights.

    noise(count, generator) draws what a step's weights depend on besides alphas, on the CPU; None: nothing is random.
    pick(alphas, noise, samples) names the branches that run; None: all of them.
    weights(alphas, noise, picked, temperature) are the weights of those, differentiable in alphas.
    probabilities(alphas) (A,) rank the branches, sum to 1, and weigh them in evaluation.
    penalty(alphas) is added to the loss that moves alphas.
    """

    name: str
    weights: Callable[[Tensor, Tensor | None, Picked, float], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    noise: Callable[[int, torch.Generator], Tensor] | None = None
    pick: Callable[[Tensor, Tensor | None, int], Picked] | None = None
    penalty: Callable[[Tensor], Tensor] | None = None
    learns: bool = True  # False: alphas take no part
    has_temperature: bool = True  # False: weights are the same at any
    tempered: bool = False  # True: the temperature is part of the weights themselves, so also of the probabilities


def drawn(noise: Tensor | None) -> Tensor:
    """Return the noise of a step; raise ValueError where a relaxation that needs it was given none."""
    if noise is None:
        raise ValueError("these weights depend on the noise of a step, and none was drawn")
    return noise


def chosen(alphas: Tensor, picked: Picked) -> Tensor:
    """Return the alphas of some branches; on a GPU no index is sent anew, for which the step would wait."""
    return take(alphas, row_index(GraphInputs(), picked, alphas.device))


def at_temperature(how: Relaxation, temperature: float) -> Relaxation:
    """Return the relaxation with its probabilities at a temperature: those of the mixture that is trained."""
    if not how.tempered or temperature == 1.0:
        return how
    return replace(how, probabilities=lambda alphas: how.probabilities(alphas / temperature))


def softmax_probabilities(alphas: Tensor) -> Tensor:
    """softmax(alphas)."""
    return torch.softmax(alphas, dim=0)


def softmax_weights(alphas: Tensor, noise: Tensor | None, picked: Picked, temperature: float) -> Tensor:
    """softmax(alphas / temperature): DARTS (arXiv 1806.09055) and LocalMamba."""
    return torch.softmax(alphas / temperature, dim=0)


def sigmoid_probabilities(alphas: Tensor) -> Tensor:
    """sigmoid(alphas), divided by their sum."""
    share = torch.sigmoid(alphas)
    return share / share.sum()


def sigmoid_weights(alphas: Tensor, noise: Tensor | None, picked: Picked, temperature: float) -> Tensor:
    """sigmoid(alphas / temperature): branches do not compete (FairDARTS, arXiv 1911.12126).

    They are divided by their sum, which the gradient takes as a constant: so each alpha learns from its own branch alone.
    """
    share = torch.sigmoid(alphas / temperature)
    return share / share.sum().detach()


def zero_one_loss(alphas: Tensor) -> Tensor:
    """-mean (sigmoid(alpha) - 1/2)^2: pushes every branch to fully on or off (FairDARTS eq. 3)."""
    return -ZERO_ONE_WEIGHT * (torch.sigmoid(alphas) - 0.5).square().mean()


def gumbel_noise(count: int, generator: torch.Generator) -> Tensor:
    """Standard Gumbel numbers (count,)."""
    uniform = torch.rand(count, generator=generator, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
    return -torch.log(-torch.log(uniform)).float()


def pick_largest(alphas: Tensor, noise: Tensor | None, samples: int) -> Picked:
    """The `samples` largest alphas + noise: a draw without replacement by softmax(alphas) (Gumbel top-k)."""
    ranked = torch.argsort(alphas + drawn(noise), descending=True, stable=True)
    return tuple(sorted(ranked[:samples].tolist()))


def gumbel_weights(alphas: Tensor, noise: Tensor | None, picked: Picked, temperature: float) -> Tensor:
    """Straight through: 1/k of each of the k picked branches forwards, softmax((alphas + noise) / temperature) backwards.

    Only the picked branches are computed. The softmax is over them alone: over all branches, as in GDAS (arXiv 1910.04465),
    whatever was picked gains while the output is still too small. Even so the weights can learn to make up for the equal
    shares, and then nothing rewards the right branch: prefer `sampled` (experiments/e1_methods).
    """
    soft = torch.softmax(chosen(alphas + drawn(noise), picked) / temperature, dim=0)
    return 1 / len(picked) + soft - soft.detach()


def sampled_weights(alphas: Tensor, noise: Tensor | None, picked: Picked, temperature: float) -> Tensor:
    """softmax(alphas / temperature) of the picked branches alone: they are compared with each other as in the full mixture."""
    return torch.softmax(chosen(alphas, picked) / temperature, dim=0)


def concentration(alphas: Tensor) -> Tensor:
    """elu(alphas) + 1: parameters of the Dirichlet distribution, 1 (uniform) at alphas = 0."""
    return F.elu(alphas) + 1


def dirichlet_probabilities(alphas: Tensor) -> Tensor:
    """Mean of the Dirichlet distribution."""
    share = concentration(alphas)
    return share / share.sum()


def dirichlet_seed(count: int, generator: torch.Generator) -> Tensor:
    """A seed, from which every forward pass of the step draws the same sample."""
    return torch.randint(2**31, (1,), generator=generator)


def dirichlet_weights(alphas: Tensor, noise: Tensor | None, picked: Picked, temperature: float) -> Tensor:
    """A reparametrised sample of the Dirichlet distribution (DrNAS, arXiv 2006.10355); temperature has no part."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(drawn(noise)))  # torch.manual_seed would seed CUDA too
        parameters = concentration(alphas.cpu()).clamp_min(1e-4)
        return torch.distributions.Dirichlet(parameters).rsample().to(alphas.device)


def dirichlet_penalty(alphas: Tensor) -> Tensor:
    """Divergence from the uniform Dirichlet distribution (DrNAS eq. 6)."""
    parameters = concentration(alphas).clamp_min(1e-4)
    mine, flat = (torch.distributions.Dirichlet(p) for p in (parameters, torch.ones_like(parameters)))
    return KL_WEIGHT * torch.distributions.kl_divergence(mine, flat)


def uniform_noise(count: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers (count,)."""
    return torch.rand(count, generator=generator)


def uniform_probabilities(alphas: Tensor) -> Tensor:
    """1 / A each: alphas say nothing."""
    return torch.full_like(alphas, 1 / len(alphas))


def pick_uniformly(alphas: Tensor, noise: Tensor | None, samples: int) -> Picked:
    """Any `samples` branches, all equally likely."""
    return tuple(sorted(torch.argsort(drawn(noise), descending=True, stable=True)[:samples].tolist()))


def uniform_weights(alphas: Tensor, noise: Tensor | None, picked: Picked, temperature: float) -> Tensor:
    """1/k of each picked branch."""
    return alphas.new_full((len(picked),), 1 / len(picked))


RELAXATIONS = {
    relaxation.name: relaxation
    for relaxation in (
        Relaxation("softmax", softmax_weights, softmax_probabilities, tempered=True),
        Relaxation("sigmoid", sigmoid_weights, sigmoid_probabilities, penalty=zero_one_loss, tempered=True),
        Relaxation("gumbel", gumbel_weights, softmax_probabilities, gumbel_noise, pick_largest),
        Relaxation("sampled", sampled_weights, softmax_probabilities, gumbel_noise, pick_largest, tempered=True),
        Relaxation(
            "dirichlet", dirichlet_weights, dirichlet_probabilities, dirichlet_seed, penalty=dirichlet_penalty,
            has_temperature=False,
        ),
        Relaxation(
            "uniform", uniform_weights, uniform_probabilities, uniform_noise, pick_uniformly, learns=False,
            has_temperature=False,
        ),
    )
}  # fmt: skip


def relaxation(given: str | Relaxation) -> Relaxation:
    """Return the relaxation of a name, or the given one itself; raise ConfigError for any other text."""
    if not isinstance(given, str):
        return given
    if given not in RELAXATIONS:
        raise ConfigError(f"search.relaxation={given!r} is not accepted{did_you_mean(given, RELAXATIONS)}")
    return RELAXATIONS[given]


def check_relaxation(how: Any) -> None:
    """Raise ConfigError unless a relaxation has all its parts, and probabilities of equal alphas that sum to 1."""
    check_contract(
        how,
        what="relaxation",
        texts=("name",),
        functions=("weights", "probabilities"),
        optional=("noise", "pick", "penalty"),
        switches=("learns", "has_temperature", "tempered"),
    )
    found = how.probabilities(torch.zeros(TRIED))
    if found.shape != (TRIED,) or not torch.isclose(found.sum(), torch.ones(())):
        raise ConfigError(
            f"relaxation {how.name}: its probabilities of {TRIED} equal alphas are {short(found.tolist())};"
            f" expected {TRIED} numbers that sum to 1"
        )
