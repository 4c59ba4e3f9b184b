"""The arms of a comparison: ways to choose directions, each retrained with every seed, and what tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lmsearch.engine.objectives import Metric, Scores, metric_for
from lmsearch.engine.randomness import key
from lmsearch.genotype import Genotype
from lmsearch.stats.intervals import Interval, over_samples, over_seeds, wilson, wilson_by_class

SEARCHED, RANDOM, HAND_MADE = "searched", "random", "hand-made"


@dataclass
class Arm:
    """One way to choose directions: a genotype per seed, and the test scores of the nets retrained with it."""

    name: str
    genotypes: list[Genotype]
    results: list[Scores] = field(default_factory=list)
    metric: Metric = metric_for("class")

    def interval(self) -> Interval:
        """Mean score with its interval: over seeds, or for one seed over the test samples, binomial where they have classes."""
        means = [r.score for r in self.results]
        if len(means) > 1:
            return over_seeds(means).within(*self.metric.bounds)
        if self.results[0].classes is None:
            return over_samples(self.results[0].scores.double().numpy()).within(*self.metric.bounds)
        if self.metric.balanced:
            counts = self.results[0].class_counts[:, :-1].numpy()
            return wilson_by_class(counts.diagonal(), counts.sum(1))
        return wilson(means[0], len(self.results[0].scores))

    def minus(self, other: Arm) -> Interval:
        """Interval of this arm's score minus the other's: the wider of that over seeds, paired, and that over test samples.

        Few seeds may differ by nothing at all, and one seed has only its test samples to tell.
        """
        pairs = list(zip(self.results, other.results, strict=True))
        classes = self.results[0].true_classes.numpy() if self.metric.balanced else None
        by_sample = over_samples(np.mean([(a.scores - b.scores).double().numpy() for a, b in pairs], axis=0), classes)
        least, most = self.metric.bounds
        by_sample = by_sample.within(least - most, most - least)
        if len(pairs) == 1:
            return by_sample
        by_seed = over_seeds([a.score - b.score for a, b in pairs]).within(least - most, most - least)
        return max(by_sample, by_seed, key=lambda interval: interval.high - interval.low)


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
    """Say that of many comparisons some differ by chance; "" for few."""
    count = len(arms) - 1
    return f"{count} intervals of 95 % each: about one in 20 excludes zero by chance alone" if count > FEW else ""


def verdict_of(arms: list[Arm]) -> str:
    """One plain sentence on whether the first arm, such as the searched genotype, differs from the others by more than noise."""
    searched, *others = arms
    differences = [(other.name, searched.minus(other)) for other in others]
    above, below = ("better", "worse") if searched.metric.higher_is_better else ("worse", "better")
    told = [
        f"{above if d.above_zero else below} than {name} ({d.mean:+.4f}, 95 % [{d.low:+.4f}, {d.high:+.4f}])"
        for name, d in differences
        if not d.holds_zero
    ]
    if not told:
        spans = ", ".join(f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}] against {name}" for name, d in differences)
        helped = "the search helped" if searched.name == SEARCHED else f"{searched.name} helps"
        return f"the differences are within noise: this comparison does not show that {helped} ({spans})"
    rest = [name for name, d in differences if d.holds_zero]
    subject = "the searched genotype" if searched.name == SEARCHED else f"the arm {searched.name}"
    return f"{subject} is {' and '.join(told)}" + (f"; against {', '.join(rest)} the difference is within noise" if rest else "")
