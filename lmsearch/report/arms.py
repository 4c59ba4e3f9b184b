"""The arms of a comparison: ways to choose directions, each retrained with every seed, and what tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lmsearch.engine.objectives import Metric, Scores, metric_for
from lmsearch.engine.randomness import key
from lmsearch.genotype import Genotype
from lmsearch.stats.digits import span
from lmsearch.stats.intervals import Interval, over_both, over_samples, paired_shares, wilson, wilson_by_class

SEARCHED, RANDOM, HAND_MADE = "searched", "random", "hand-made"


@dataclass
class Arm:
    """One way to choose directions: a genotype per seed, and the test scores of the nets retrained with it."""

    name: str
    genotypes: list[Genotype]
    results: list[Scores] = field(default_factory=list)
    metric: Metric = metric_for("class")

    def interval(self) -> Interval:
        """Mean score with its interval: over seeds and test samples, of one seed over samples, binomial for classes."""
        single = self._counted()
        if len(self.results) == 1:
            found = over_samples(self.results[0].scores.double().numpy()) if single is None else single
        else:
            found = over_both(_by_sample(self.results), [r.score for r in self.results], self._classes(), single=single)
        return found.within(*self.metric.bounds)

    def minus(self, other: Arm) -> Interval:
        """Interval of this arm's score minus the other's, both paired: over seeds and test samples, for one seed over samples.

        That of one seed does not hold the luck of training: of two choices that are equally good it calls one better too often.
        """
        gaps, least, most = _by_sample(self.results) - _by_sample(other.results), *self.metric.bounds
        single = self._paired(gaps)
        if len(gaps) == 1:
            found = over_samples(gaps[0], self._classes()) if single is None else single
        else:
            values = [a.score - b.score for a, b in zip(self.results, other.results, strict=True)]
            found = over_both(gaps, values, self._classes(), single=single)
        return found.within(least - most, most - least)

    def _classes(self) -> np.ndarray | None:
        """Return the test samples' classes (n,) where their numbers are taken as given, None elsewhere."""
        return self.results[0].true_classes.numpy() if self.metric.balanced else None

    def _counted(self) -> Interval | None:
        """Return the binomial interval of one training with the mean score; None where samples have no classes."""
        if self.results[0].classes is None:
            return None
        if self.metric.balanced:
            counts = np.mean([r.class_counts[:, :-1].numpy() for r in self.results], axis=0)
            return wilson_by_class(counts.diagonal(), counts.sum(1))
        return wilson(float(np.mean([r.score for r in self.results])), len(self.results[0].scores))

    def _paired(self, gaps: np.ndarray) -> Interval | None:
        """Return the interval of gaps (S, n) of one training each; None where they are no shares of several samples."""
        seeds, n = gaps.shape
        if self.results[0].classes is None or self.metric.balanced or n < 2:
            return None
        return paired_shares((gaps > 0).sum() / seeds, (gaps < 0).sum() / seeds, n)


def _by_sample(results: Sequence[Scores]) -> np.ndarray:
    """Return the scores (S, n) of test samples."""
    return np.stack([r.scores.double().numpy() for r in results])


def random_genotype(candidates: Sequence[Sequence[str]], keep: Sequence[int], seed: int) -> Genotype:
    """Draw keep[l] of candidates[l] for every layer l (all of them where there are fewer), uniformly, in candidate order."""
    rng = np.random.default_rng(key(seed, "random genotype"))
    drawn = []
    for names, k in zip(candidates, keep, strict=True):
        picked = np.sort(rng.choice(len(names), size=min(k, len(names)), replace=False))
        drawn.append([names[i] for i in picked])
    return Genotype.from_directions(drawn, where="random genotype")


FEW = 2  # comparisons, beyond which some differ by chance


def unequal_kept(arms: Sequence[Arm]) -> str:
    """Say which arms keep other numbers of directions than the first, and so have other sizes and costs; "" for none."""
    kept = {arm.name: [len(layer) for layer in arm.genotypes[0].directions] for arm in arms}
    mean = {name: sum(numbers) / len(numbers) for name, numbers in kept.items()}
    first = mean[arms[0].name]
    others = [f"{name} {number:.3g}" for name, number in mean.items() if number != first]
    return (
        f"directions per layer differ, and so do size and cost: {arms[0].name} {first:.3g}, {', '.join(others)}" if others else ""
    )


def by_chance(arms: Sequence[Arm]) -> str:
    """Say that of many comparisons some differ by chance; "" for few. Of one training how many is not known: see `Arm.minus`."""
    count, once = len(arms) - 1, len(arms[0].results) == 1
    often = "more than one in 20 excludes" if once else "about one in 20 excludes"
    return f"{count} intervals of 95 % each: {often} zero by chance alone" if count > FEW else ""


def in_words(difference: Interval) -> str:
    """Return a difference with its interval."""
    return span(difference.mean, difference.low, difference.high).replace(" [", ", 95 % [")


ONE_TRAINING = (
    "every choice was trained once, so no interval holds the luck of training and other seeds may reverse this: seeds=5 tells"
)

ONE_SAMPLE = "there is one test sample, which tells nothing of others, so nothing was tested: a larger test set tells"


def verdict_of(arms: list[Arm]) -> str:
    """One plain sentence on whether the first arm, such as the searched genotype, differs from the others by more than noise.

    With one seed it says who is ahead in these trainings, with one test sample on that one, and what that does not tell.
    """
    searched, *others = arms
    once, lone = len(searched.results) == 1, len(searched.results[0].scores) == 1
    differences = {other.name: searched.minus(other) for other in others}
    above, below = ("ahead of", "behind") if once or lone else ("better than", "worse than")
    if not searched.metric.higher_is_better:
        above, below = below, above
    told = [f"{above if d.above_zero else below} {name} ({in_words(d)})" for name, d in differences.items() if not d.holds_zero]
    more = "".join(f"; {told}" for told, holds in ((ONE_TRAINING, once), (ONE_SAMPLE, lone)) if holds)
    if not told:
        spans = ", ".join(f"{span(d.mean, d.low, d.high)} against {name}" for name, d in differences.items())
        helped = "the search helped" if searched.name == SEARCHED else f"{searched.name} helps"
        return f"the differences are within noise: this comparison does not show that {helped} ({spans}){more}"
    rest = [name for name, d in differences.items() if d.holds_zero]
    subject = "the searched genotype" if searched.name == SEARCHED else f"the arm {searched.name}"
    within = f"; against {', '.join(rest)} the difference is within noise" if rest else ""
    where = "in these trainings " if once else "on this test sample " if lone else ""
    return f"{where}{subject} is {' and '.join(told)}{within}{more}"
