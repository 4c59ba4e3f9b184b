"""run_compare: a genotype beside random ones and a hand-made one, retrained alike, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lmsearch.api.given import (
    Batches,
    Losses,
    check_apart,
    checked_epochs,
    checked_seed,
    checked_whole,
    loader_of,
    objective_of,
    on_device,
)
from lmsearch.api.nets import SUPERNET, grids_of, marks, open_net
from lmsearch.api.retrain import Choice, Model, genotype_of, recipe_for, trained
from lmsearch.api.spaces import space_of
from lmsearch.engine.train import Precision
from lmsearch.genotype import Genotype
from lmsearch.report.arms import HAND_MADE, RANDOM, SEARCHED, Arm, random_genotype, unequal_kept, verdict_of
from lmsearch.search.supernet.network import layer_candidates, named_mixers
from lmsearch.search_space import SearchSpace
from lmsearch.stats.intervals import Interval

BY_HAND = ("h", "h_flip", "w2", "w2_flip")  # LocalMamba's un-searched choice


@dataclass(frozen=True)
class Comparison:
    """Mean test score of each arm with its 95 % interval, the searched arm's score minus each other's, and one sentence.

    `per_seed` holds each arm's scores; `metric` is what the scores are called.
    """

    metric: str
    arms: Mapping[str, Interval]
    differences: Mapping[str, Interval]
    per_seed: Mapping[str, tuple[float, ...]]
    verdict: str


def run_compare(
    model: Model,
    genotype: Choice,
    train: Batches,
    test: Batches,
    *,
    space: str | Path | SearchSpace | None = None,
    hand_made: Sequence[str] = BY_HAND,
    seeds: int = 1,
    objective: str | Losses | None = None,
    metric: str | None = None,
    epochs: int = 12,
    lr: float = 3e-3,
    seed: int = 0,
    device: str | torch.device = "auto",
    threads: int | None = None,
) -> Comparison:
    """Retrain a genotype, random ones from `space` and a hand-made one with each of `seeds` seeds, and compare them on `test`.

    hand_made: directions of every mixer, the first as many as it keeps. The other arguments are as in run_retrain and
    run_search. Intervals are over seeds and test samples; those of one seed are over samples, without the luck of training.
    """
    seed, epochs, seeds = checked_seed(seed), checked_epochs(epochs), checked_whole("seeds", seeds, least=1)
    judged = objective_of(objective, metric=metric)
    by_name = list(Genotype.from_directions([hand_made], where="hand_made").directions[0])
    check_apart(train=train, test=test)
    where_from = space_of(space)
    with on_device(device, threads) as where:
        loaders = loader_of(train, name="train", seed=seed), loader_of(test, name="test", seed=seed)
        net = open_net(model, loaders, judged)
        searched = genotype_of(genotype, net)
        keep = [len(layer.directions) for layer in searched.layers]
        by_hand = Genotype.from_directions([by_name[:number] for number in keep], where="hand_made")
        tried = net.make(marks(len(keep)), SUPERNET)
        padding = next(iter(named_mixers(tried).values())).options.window_padding
        grids = net.listed(grids_of(tried, next(iter(loaders[0])).inputs))
        candidates = layer_candidates(where_from, grids, padding=padding, deduplicate=True)
        arms = [Arm(name, [], metric=judged.metric) for name in (SEARCHED, RANDOM, HAND_MADE)]
        recipe, precision = recipe_for(loaders[0], epochs, lr), Precision(where)
        for own in range(seed, seed + seeds):
            for arm, chosen in zip(arms, (searched, random_genotype(candidates, keep, own), by_hand), strict=True):
                arm.genotypes.append(chosen)
                arm.results.append(trained(net, chosen, loaders, judged, recipe, precision, seed=own)[1])
    return Comparison(
        judged.metric.name,
        {arm.name: arm.interval() for arm in arms},
        {arm.name: arms[0].minus(arm) for arm in arms[1:]},
        {arm.name: tuple(result.score for result in arm.results) for arm in arms},
        "; ".join(told for told in (verdict_of(arms), unequal_kept(arms)) if told),
    )
