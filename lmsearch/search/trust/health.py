"""How much to trust a search: entropies and margins of its alphas, and what masking directions does to held-out data.

Alpha magnitude is not usefulness, so the verdict needs both: alphas that left uniform, and functional tests, in which the
derived directions must beat randomly drawn ones on held-out samples: inside the trained supernet, and inside fresh ones that
trained all directions alike (recheck.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lmsearch.engine.finite import TrainingDiverged
from lmsearch.engine.progress import Phase
from lmsearch.files import finite
from lmsearch.genotype import LayerChoice
from lmsearch.scan.directions import duplicates
from lmsearch.scan.grids import Grid
from lmsearch.search.derivation.choice import surviving
from lmsearch.search.supernet.masking import Evaluate
from lmsearch.search.supernet.network import masked, named_mixers
from lmsearch.search.trust.detectors import (
    Finding,
    beats_random,
    beats_random_afresh,
    duplicate_candidates,
    near_uniform,
    normalised_entropy,
    one_candidate_everywhere,
)
from lmsearch.search.trust.inside import look_inside
from lmsearch.search.trust.mixture import Mixture, mixture_health, mixture_of
from lmsearch.search.trust.recheck import ENDED_EARLY, HOPELESS, Again, enough, first_advantage, fresh_advantage
from lmsearch.search.trust.verdict import CONTINUE, verdict
from lmsearch.status import Status

NUM_RANDOM = 16  # random genotypes of the functional test


@dataclass(frozen=True)
class Health:
    """The verdict and its evidence. Losses are means over held-out samples of the masked supernet (same weights).

    entropy: of the alphas' probabilities, 1 = uniform, mean over layers; margin: least margin of a layer, in probability or,
    where directions were chosen by masking (perturbation, climb, halving), in held-out loss.
    advantage: mean loss of random genotypes minus that of the derived one; advantage_z: the same in standard errors.
    gap: loss with the derived directions only minus loss of the whole mixture.
    recovered: advantage / (advantage + gap): 1 where the derived directions do all that the mixture does, 0 where they do
    no better than random ones.
    recheck_advantage, recheck_z: as advantage and advantage_z, inside supernets that trained all directions alike.
    samples, recheck_samples: held-out samples that this took; more are looked at only as long as they can change the answer.
    tau: Kendall's rank correlation between alphas and the loss increase when a direction is left out (0 by chance).
    findings: what each detector says.
    """

    status: Status
    reason: str
    entropy: float | None
    entropies: dict[str, float] | None
    margin: float | None
    advantage: float | None = None
    advantage_z: float | None = None
    samples: int | None = None
    gap: float | None = None
    recovered: float | None = None
    recheck_advantage: float | None = None
    recheck_z: float | None = None
    recheck_samples: int | None = None
    tau: float | None = None
    findings: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for genotype.json; what was not measured, or is not finite, is left out."""
        return {k: v for k, v in finite(asdict(self)).items() if v is not None}

    def plus(self, *findings: Finding) -> Health:
        """Return the same verdict with more findings."""
        return replace(self, findings=self.findings + findings)


def alpha_health(
    choices: Sequence[LayerChoice], *, status: Status = Status.NOT_TESTED, reason: str = "no held-out data was run"
) -> Health:
    """Return what the alphas alone tell."""
    entropies = {c.name: normalised_entropy(c.scores) for c in choices}
    margins = [c.margin for c in choices if c.margin is not None]
    mean = float(np.mean(list(entropies.values())))
    return Health(status, reason, mean, entropies, min(margins, default=None), findings=(near_uniform(entropies),))


def untested(choices: Sequence[LayerChoice], alphas: Mapping[str, Mapping[str, float]] | None) -> Health:
    """Return what alphas alone tell of choices that there are no other samples to test on; `alphas` as in `check_health`."""
    reason = "no samples were given that had no part in the choice"
    if alphas is None:
        margin = min((c.margin for c in choices if c.margin is not None), default=None)
        return Health(Status.NOT_TESTED, reason, None, None, margin)
    return alpha_health([replace(c, scores=dict(alphas[c.name])) for c in choices], reason=reason)


def random_choice(
    candidates: Mapping[str, Sequence[str]], keep: Sequence[int], rng: np.random.Generator
) -> dict[str, tuple[str, ...]]:
    """Draw `keep` of every layer's candidates, uniformly, in candidate order."""
    drawn = {}
    for (layer, names), k in zip(candidates.items(), keep, strict=True):
        kept = np.sort(rng.choice(len(names), size=k, replace=False))
        drawn[layer] = tuple(names[i] for i in kept)
    return drawn


def check_health(
    module: nn.Module,
    choices: Sequence[LayerChoice],
    evaluate: Evaluate,
    *,
    seed: int,
    quick: Evaluate | None = None,
    fresh: Iterable[nn.Module] = (),
    alphas: Mapping[str, Mapping[str, float]] | None,
) -> Health:
    """Run the functional tests on held-out data; `evaluate(module)` returns the scores of the same samples every time.

    The verdict looks at more and more of them until it knows (stats/sequential.py).
    `quick` does the same on fewer samples, for the many passes of the leave-one-out losses and of the gap for every k, which
    the verdict does not need. `fresh` gives the supernets of the recheck, two at least, or none; they are asked for, and so
    may be trained, only where all other tests are passed. `alphas` holds every layer's probability of every direction, None
    where no alphas learned: what they and their mixture would tell is then left out. No weights are changed here. What
    directions are worth in networks trained from scratch for as long as those will be is what `lmsearch compare` measures.
    See `verdict` for the rule; losses that are not finite are no measurement, and leave the search indeterminate.
    """
    learned = () if alphas is None else tuple(replace(c, scores=dict(alphas[c.name])) for c in choices)
    base = alpha_health(learned) if learned else Health(Status.NOT_TESTED, "", None, None, None)
    base = replace(base, margin=min((c.margin for c in choices if c.margin is not None), default=None))
    try:
        return tested(base, module, choices, learned, evaluate, quick or evaluate, fresh, seed=seed)
    except TrainingDiverged as error:
        return replace(base, status=Status.INDETERMINATE, reason=str(error))


def tested(
    base: Health,
    module: nn.Module,
    choices: Sequence[LayerChoice],
    learned: Sequence[LayerChoice],
    evaluate: Evaluate,
    quick: Evaluate,
    fresh: Iterable[nn.Module],
    *,
    seed: int,
) -> Health:
    """Return `base` with what the functional tests measure; `learned` are the choices with what alphas say, if there are any."""
    keep = [len(c.directions) for c in choices]
    candidates = {c.name: surviving(c.scores) for c in choices}
    rng = np.random.default_rng([seed, 20260])
    random = [random_choice(candidates, keep, rng) for _ in range(NUM_RANDOM)]
    ways = [masked(module, {c.name: c.directions for c in choices}), *(masked(module, way) for way in random)]
    with Phase("checks"):
        looks = evaluate.looks(module, [*ways, mixture_of(module, learned)] if learned else ways)
        inside = look_inside(looks, mixed=bool(learned))
        advantage, z, gap = inside.advantage, inside.z, inside.gap
        mixed = Mixture() if gap is None else mixture_health(module, learned, quick, advantage=advantage, gap=gap)
    measured: dict[str, Any] = {"advantage": advantage, "advantage_z": z, "samples": inside.samples}
    status, reason, again = verdict_with_recheck(choices, evaluate, rng, fresh, inside=(base.entropy, z, mixed.recovered))
    if again is not None:
        measured |= {"recheck_advantage": again.advantage, "recheck_z": again.z, "recheck_samples": again.samples}
    measured |= {"gap": mixed.gap, "recovered": mixed.recovered, "tau": mixed.tau}
    findings = [
        *base.findings,
        *([] if only_kept(choices) else [beats_random(advantage, z)]),
        *([] if again is None else [beats_random_afresh(again.advantage, again.z)]),
        *mixed.findings,
    ]
    return replace(base, status=status, reason=reason, findings=tuple(findings), **measured)


def only_kept(choices: Sequence[LayerChoice]) -> bool:
    """Tell whether the supernet holds no other directions any more than those that are kept."""
    return all(len(surviving(c.scores)) == len(c.directions) for c in choices)


def verdict_with_recheck(
    choices: Sequence[LayerChoice],
    evaluate: Evaluate,
    rng: np.random.Generator,
    fresh: Iterable[nn.Module],
    *,
    inside: tuple[float | None, float | None, float | None],
) -> tuple[Status, str, Again | None]:
    """Return status, reason and what the recheck measured, which is done only where it can still decide something.

    `inside` is what `verdict` asks of the search's own supernet: entropy, z, recovered.
    """
    if only_kept(choices):
        status, reason = Status.NOT_TESTED, "only the kept directions are left, so there are no others to compare them with"
        inside, open_question = (None, None, None), any(len(c.scores) > len(c.directions) for c in choices)
    else:
        status, reason = verdict(*inside, None)
        open_question = status == Status.UNCONFIRMED
    if not open_question:
        return status, reason, None
    try:
        again = recheck(choices, evaluate, rng, fresh)
    except TrainingDiverged as error:
        return status, f"{reason.removesuffix(CONTINUE)} (the training of the recheck's supernets diverged: {error})", None
    if again is None:
        return status, reason, None
    status, reason = verdict(*inside, again.z)
    return status, f"{reason}{ENDED_EARLY if again.ended_early else ''}", again


def recheck(
    choices: Sequence[LayerChoice], evaluate: Evaluate, rng: np.random.Generator, fresh: Iterable[nn.Module]
) -> Again | None:
    """Return how the derived directions do inside the fresh supernets; None where there are fewer than two to compare.

    Random choices are drawn from all candidates here, also from those that the search dropped on its way. Every supernet is
    looked at on as many samples as the first one needed. The second is not asked for where the first leaves no hope.
    """
    everything = {c.name: tuple(c.scores) for c in choices}
    random = [random_choice(everything, [len(c.directions) for c in choices], rng) for _ in range(NUM_RANDOM)]
    found: list[Tensor] = []
    for module in fresh:
        ways = [{c.name: c.directions for c in choices}, *random]
        looked = evaluate.looks(module, [masked(module, way) for way in ways])
        with Phase(f"recheck {len(found) + 1}: checks"):
            found.append(enough(looked, None if not found else found[0].shape[1]))
        if len(found) == 1 and (first := first_advantage(found[0]))[1] < HOPELESS:
            return Again(*first, found[0].shape[1], ended_early=True)
    if len(found) < 2:
        return None
    losses = torch.stack(found)  # (supernets, 1 + random choices, samples)
    return Again(*fresh_advantage(losses[:, 0], losses[:, 1:]), losses.shape[2])


def structure_findings(module: nn.Module, choices: Sequence[LayerChoice], grids: Sequence[Grid]) -> Sequence[Finding]:
    """Return what the candidates and the choices themselves tell, without running anything; `grids` are those of the layers."""
    mixers = named_mixers(module)
    twins = {
        layer: duplicates(mixer.directions, grid, padding=mixer.options.window_padding)
        for (layer, mixer), grid in zip(mixers.items(), grids, strict=True)
    }
    kept, candidates = [c.directions for c in choices], [tuple(c.scores) for c in choices]  # those dropped on the way as well
    return duplicate_candidates(twins), one_candidate_everywhere(kept, candidates)
