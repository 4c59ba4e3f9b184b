"""The recheck of a search: do its directions beat random ones where the weights of all directions were trained alike?

A direction that wins early is the only one that a search goes on training, and then beats the untrained rest inside its
supernet, whatever it is worth. So a few fresh supernets are trained on uniformly drawn directions, without alphas, and the
derived directions are compared with random ones in there. The spread between fresh supernets tells how much of a difference
is the luck of their weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from lmsearch.engine.randomness import key
from lmsearch.engine.recipe import Recipe
from lmsearch.search.supernet.masking import Look
from lmsearch.stats.sequential import RISK_Z

SUPERNETS = 2  # fresh ones: the fewest that show a spread

HOPELESS = 1.0  # standard errors in the first of them, without the luck of training, below which the second is not trained
PRECISE = 0.1  # share of the squared error that samples may keep, against what the random choices' spread leaves in any case
ENDED_EARLY = "; the recheck ended after the first of its supernets, which left no hope"


@dataclass(frozen=True)
class Again:
    """What the recheck measured: advantage, the same in standard errors, and on how many samples.

    Ended early, it rests on the first supernet alone, and z on errors that leave the luck of its training out.
    """

    advantage: float
    z: float
    samples: int
    ended_early: bool = False


def recheck_recipe(recipe: Recipe, share: float, *, candidates: int, keep: int) -> Recipe:
    """Return the recipe of one fresh supernet: every direction is trained in about `share` of the steps of the search.

    `candidates` and `keep` count directions over all layers; a step trains `keep` of them.
    """
    stretch = share * candidates / keep
    return replace(recipe.over(max(1, round(stretch * recipe.epochs))), ema_decay=None)


def fresh_seeds(seed: int) -> tuple[int, ...]:
    """Return the seeds of the fresh supernets' weights and draws for a search with this seed."""
    return tuple(key(seed, "recheck", number) for number in range(SUPERNETS))


def enough(looks: Iterable[Look], samples: int | None) -> Tensor:
    """Return losses (1 + S, n) of derived and random choices in one fresh supernet, on no more samples than help.

    More samples stop helping where the derived directions' error from samples is small beside that from the draw of the S
    random choices, or where all of them would leave no hope. `samples` is what another supernet took: then as many.
    """
    for look in looks:
        losses = look.losses
        if samples is None:
            from_samples, from_choices = errors(losses)
            if from_samples <= PRECISE * from_choices or will_be_hopeless(losses, look.share):
                break
        elif losses.shape[1] >= samples:
            break
    return losses


def errors(losses: Tensor) -> tuple[float, float]:
    """Return the squared standard errors of the advantage in one supernet: from samples, and from the draw of S choices.

    losses (1 + S, n) of derived and random choices. One sample tells of no spread.
    """
    derived, drawn = losses[0], losses[1:]
    if losses.shape[1] < 2:
        return math.inf, 0.0
    paired = drawn.mean(0) - derived
    return (paired.var() / len(paired)).item(), (drawn.mean(1).var() / len(drawn)).item()


def will_be_hopeless(losses: Tensor, share: float) -> bool:
    """Tell whether z of all samples stays below HOPELESS, after a share of them: losses (1 + S, n) in the first supernet.

    The advantage of all lies above this one by RISK_Z of its standard errors in 2.5 % of searches, and its squared error is
    this one's times `share` at least. Of searches that two supernets pass, that misses none in 300 (simulated beside the rest).
    """
    from_samples, from_choices = errors(losses)
    if not math.isfinite(from_samples):
        return False
    most = advantage_of(losses) + RISK_Z * math.sqrt(from_samples * (1 - share))
    return most < HOPELESS * math.sqrt(share * (from_samples + from_choices))


def advantage_of(losses: Tensor) -> float:
    """Return the mean loss of random choices minus that of the derived one, losses (1 + S, n)."""
    return (losses[1:].mean(0) - losses[0]).mean().item()


def first_advantage(losses: Tensor) -> tuple[float, float]:
    """Return (advantage, z) in one supernet, losses (1 + S, n); the luck of its training is not among the errors of z.

    Where z < HOPELESS, two supernets reach z >= 3 together in at most 0.2 % of searches, whatever directions are worth and
    training adds to it (simulated in tests/test_recheck_ends.py).
    """
    advantage = advantage_of(losses)
    return advantage, advantage / max(math.sqrt(sum(errors(losses))), 1e-12)


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
