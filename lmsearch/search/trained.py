"""A trained supernet: what it says about directions, what is derived from it, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lmsearch.data import spread
from lmsearch.data.batch import Batch
from lmsearch.data.info import HeldOut
from lmsearch.data.read_once import ReadOnce
from lmsearch.engine.objectives import Objective, Scores
from lmsearch.engine.progress import Phase
from lmsearch.engine.train import Precision
from lmsearch.genotype import LayerChoice
from lmsearch.search.derivation.choice import Probabilities, Quota, choose, planned, quota_of, surviving
from lmsearch.search.derivation.halving import READ_BYTES
from lmsearch.search.derivation.kinds import Derived, derivation_kind, derive, samples_for, told_of
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.supernet.kept import KeptScores
from lmsearch.search.supernet.masking import Evaluate, OnBatches
from lmsearch.search.supernet.network import Branches, masked, probabilities, remaining
from lmsearch.search.supernet.relax import Relaxation
from lmsearch.search.trust.health import Health, check_health, untested
from lmsearch.search.trust.mixture import leave_one_out
from lmsearch.stats.sequential import looks

QUICK_SAMPLES = 32  # of leave-one-out losses and of the gap for every k


@dataclass(frozen=True)
class Trained:
    """A trained supernet, and by what its directions are chosen and tested.

    `relaxation` is that of the end of the search. `holdout` is what a choice is made on; `unseen` had no part in it and tests
    it (None: nothing does).
    """

    module: nn.Module
    relaxation: Relaxation
    derivation: str  # name of a DerivationKind
    quota: Quota
    holdout: HeldOut
    unseen: HeldOut | None
    objective: Objective
    precision: Precision
    seed: int
    kept: KeptScores | None = None  # what was measured before the run was stopped
    dominant: str = ""  # the direction that was found to do all the work while the supernet trained

    def on(self, batches: Iterable[Batch], *, name: str = "") -> Evaluate:
        """Return what scores a network on these samples; under a name what it measures is kept, where that is kept at all."""
        return OnBatches(batches, self.objective, self.precision, kept=self.kept if name else None, name=name)

    def once(self, name: str, measure: Callable[[], float]) -> float:
        """Return the number that `measure` gives; where scores are kept, it is kept under this name, and asked for only once."""
        if self.kept is None:
            return measure()

        def scores() -> list[Scores]:
            found = torch.tensor([measure()], dtype=torch.float64)
            return [Scores(found, found)]

        return self.kept.once(self.module, name, None, scores)[0].loss

    @property
    def scores(self) -> Probabilities:
        """Every layer's probability of every direction."""
        return probabilities(self.module, self.relaxation)

    def derive(self, *, samples: int | None = None) -> Derived:
        """Return each layer's choice and how it was made; `samples` held-out ones are masked on (None: as many as usual)."""
        kind, counts = derivation_kind(self.derivation), [len(p) for p in self.scores.values()]
        keep = planned(self.quota, counts)
        taken = min(n for n in (self.holdout.num_samples, samples, kind.samples) if n is not None)
        if kind.in_parts:
            evaluate: Evaluate = self.in_parts(taken)
        else:
            evaluate = self.on(samples_for(self.derivation, self.holdout, samples=samples), name="derivation")
        with Phase("derivation", images=kind.looked_at(taken, keep, counts) * kind.networks(keep, counts)):
            choices, how = derive(self.derivation, self.scores, self.quota, seed=self.seed, module=self.module, evaluate=evaluate)
        return choices, told_of(how, self.dominant)

    def in_parts(self, number: int) -> OnBatches:
        """Return what scores networks, part by part, on so many held-out samples, drawn at random and read once.

        There are fewer where they would take more than READ_BYTES.
        """
        seen = spread(self.holdout, QUICK_SAMPLES).inputs
        number = min(number, max(1, READ_BYTES * len(seen) // seen.nbytes))
        drawn = np.sort(np.random.default_rng([self.seed, 20264]).permutation(self.holdout.num_samples)[:number])
        parts = [ReadOnce(self.holdout.at(drawn[places])) for places in looks(number, seed=self.seed)]
        return OnBatches(self.holdout, self.objective, self.precision, parts, self.kept, "halving")

    def health(self, choices: Sequence[LayerChoice], *, fresh: Iterable[nn.Module] = ()) -> Health:
        """Return how sure these choices are, on samples that had no part in them; `fresh` gives the supernets of a recheck."""
        alphas = self.scores if self.relaxation.learns else None
        if self.unseen is None:
            return untested(choices, alphas)
        quick = self.on([spread(self.unseen, QUICK_SAMPLES)], name="quick")
        parts = [self.unseen.at(places) for places in looks(self.unseen.num_samples, seed=self.seed)]
        tested = OnBatches(self.unseen, self.objective, self.precision, parts, self.kept, "look")
        return check_health(self.module, choices, tested, seed=self.seed, quick=quick, fresh=fresh, alphas=alphas)

    def whole(self, choices: Sequence[LayerChoice]) -> Mapping[str, Branches]:
        """Return what was trained, as branches: the mixture as alphas weigh it or, without alphas, the chosen directions.

        Without alphas sets of branches were trained, so the chosen ones stand for the supernet.
        """
        if not self.relaxation.learns:
            return masked(self.module, {choice.name: choice.directions for choice in choices})
        return self.mixture()

    def mixture(self) -> dict[str, Branches]:
        """Return the branches that are left in every layer, weighted by their probabilities."""
        return {layer: remaining(self.module, layer, surviving(p), p) for layer, p in self.scores.items()}

    def alpha_score(self, architecture: Architecture) -> float:
        """Return the sum of the log probabilities of the directions of an architecture."""
        layers = zip(self.scores.values(), architecture, strict=True)
        return float(sum(np.log(max(p[name], 1e-300)) for p, names in layers for name in names))

    def usefulness(self) -> list[dict[str, float]]:
        """Return how much the held-out loss of the mixture rises when one direction of one layer is left out."""
        scores, mixture, held = self.scores, self.mixture(), self.on(self.holdout)
        choices = choose(scores, quota_of(self.quota, scores))
        rises = leave_one_out(self.module, held, choices, mixture)
        return [dict.fromkeys(p, 0.0) | rises.get(layer, {}) for layer, p in scores.items()]
