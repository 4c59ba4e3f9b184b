"""What trained supernets say about every architecture of a space, to be compared with training each from scratch."""

from __future__ import annotations

from dataclasses import replace

import torch

from experiments.e3_scanbench.tasks import BenchTask
from experiments.study import Record
from lmsearch.config import compose_settings
from lmsearch.data import Source, search_loaders
from lmsearch.engine.train import Precision
from lmsearch.scanbench.spaces import Space
from lmsearch.search.derivation.choice import Quota, kept
from lmsearch.search.session import SearchSession
from lmsearch.search.supernet.options import SINGLE_PATH, SearchOptions
from lmsearch.settings.tasks import Search
from lmsearch.tasks.parts.search_setup import search_options

NUM_SEEDS = 5
HOLDOUT = 0.2  # of search=darts
MOST_EPOCHS = 4  # of a fair supernet, in epochs of the recipe


def options_of(*words: str) -> SearchOptions:
    """Return the options of `lmsearch search data=planted` (few, large steps of alphas) with these words."""
    return search_options(compose_settings(Search, ["data=planted", *words]).supernet)


def supernet(
    task: BenchTask,
    source: Source,
    space: Space,
    seed: int,
    *,
    options: SearchOptions,
    derivation: str = "topk",
    epochs: int | None = None,
) -> SearchSession:
    """Train a supernet over a space with the task's own recipe, for as many epochs as the recipe says or as are given."""
    candidates = (space.candidates,) * space.depth
    spec = replace(task.spec(source.info, space.depth), directions=candidates, merge="weighted")
    recipe = task.recipe if epochs is None else replace(task.recipe, epochs=epochs)
    loaders = search_loaders(source, holdout=HOLDOUT, batch_size=recipe.batch_size, seed=seed)
    quota, precision = Quota(keep=(space.keep,) * space.depth), Precision(torch.device("cpu"))
    found = SearchSession.over(
        source, spec, loaders, recipe, options, quota, derivation=derivation, precision=precision, seed=seed
    )
    found.train()
    return found


def score_all(task: BenchTask, source: Source, space: Space, seed: int) -> Record:
    """Return the three scores of every architecture of the space, in its order: higher should be better."""
    found = supernet(task, source, space, seed, options=options_of("search=darts"))
    return {
        "alpha": [round(found.trained.alpha_score(a), 5) for a in space.architectures()],
        "masked": masked_scores(found, space),
        "perturbation": left_out_scores(found, space),
        "derived": kept(found.derive()[0]),
        "cost": found.cost,
    }


def score_fair(task: BenchTask, source: Source, space: Space, seed: int) -> Record:
    """Return the two scores that need no alphas, from shared weights of which every branch had the same share of training."""
    epochs = fair_epochs(task, space)
    found = supernet(task, source, space, seed, options=SINGLE_PATH, epochs=epochs)
    return {
        "masked_fair": masked_scores(found, space),
        "perturbation_fair": left_out_scores(found, space),
        "epochs": epochs,
        "cost": found.cost,
        "config": task.digest(),
    }


def score_strict(task: BenchTask, source: Source, space: Space, seed: int) -> Record:
    """Return what search=fair goes by, from a supernet trained for as many steps as one network, and what it derives."""
    found = supernet(task, source, space, seed, options=options_of("search=fair"), derivation="climb")
    scores = masked_scores(found, space)
    return {"masked_strict": scores, "derived": kept(found.derive()[0]), "cost": found.cost, "config": task.digest()}


def fair_epochs(task: BenchTask, space: Space) -> int:
    """Return the epochs that cost a single-path supernet what one cost that runs every branch, four times as many at most."""
    return task.recipe.epochs * min(MOST_EPOCHS, len(space.candidates) // space.keep)


def masked_scores(found: SearchSession, space: Space) -> list[float]:
    """Return minus the held-out loss of the supernet that runs an architecture's directions alone, for every architecture."""
    shared = found.shared()
    return [round(-shared(a).loss, 6) for a in space.architectures()]


def left_out_scores(found: SearchSession, space: Space) -> list[float]:
    """Return the sum of what the mixture's held-out loss rises by without each direction of an architecture, for every one.

    Shared weights without alphas weigh every branch of the mixture alike.
    """
    useful = found.trained.usefulness()
    return [round(sum(u[d] for u, names in zip(useful, a, strict=True) for d in names), 6) for a in space.architectures()]
