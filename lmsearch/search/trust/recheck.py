"""The recheck of a search: do its directions beat random ones where the weights of all directions were trained alike?

A direction that wins early is the only one that a search goes on training, and then beats the untrained rest inside its
supernet, whatever it is worth. So a few fresh supernets are trained on uniformly drawn directions, without alphas, and the
derived directions are compared with random ones in there. The spread between fresh supernets tells how much of a difference
is the luck of their weights.
"""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from lmsearch.engine.randomness import key
from lmsearch.engine.recipe import Recipe

SUPERNETS = 2  # fresh ones: the fewest that show a spread


def recheck_recipe(recipe: Recipe, share: float, *, candidates: int, keep: int) -> Recipe:
    """Return the recipe of one fresh supernet: every direction is trained in about `share` of the steps of the search.

    `candidates` and `keep` count directions over all layers; a step trains `keep` of them.
    """
    stretch = share * candidates / keep
    return replace(recipe.over(max(1, round(stretch * recipe.epochs))), ema_decay=None)


def fresh_seeds(seed: int) -> tuple[int, ...]:
    """Return the seeds of the fresh supernets' weights and draws for a search with this seed."""
    return tuple(key(seed, "recheck", number) for number in range(SUPERNETS))


def fresh_advantage(derived: Tensor, random: Tensor) -> tuple[float, float]:
    """Return (advantage, z): mean loss of random choices minus that of the derived one, and the same in standard errors.

    derived (R, n): losses of n samples in R fresh supernets, R >= 2; random (R, S, n): those of S random choices. The squared
    standard error is the sum of three parts: samples differ; training with other initial weights moves a choice among the
    others, which the random choices show with S - 1 degrees of freedom per further supernet; and the S choices are a sample of
    all, which differ by what directions are worth and by that same luck.
    """
    supernets, choices, samples = random.shape
    paired = (random.mean(1) - derived).mean(0)  # (n,)
    standing = random.mean(2) - random.mean((1, 2), keepdim=True)[..., 0]  # (R, S)
    training = standing.var(0).mean() * choices / (choices - 1)
    between = standing.mean(0).var()
    error = math.sqrt((paired.var() / samples + training / supernets + between / choices).item())
    advantage = paired.mean().item()
    return advantage, advantage / max(error, 1e-12)
