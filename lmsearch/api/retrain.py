"""run_retrain: the network of a genotype, trained from scratch in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lmsearch.api.given import (
    Batches,
    Losses,
    check_apart,
    check_objective,
    checked_epochs,
    checked_seed,
    loader_of,
    objective_of,
    on_device,
    recipe_of,
)
from lmsearch.api.nets import DERIVED, Net, open_net
from lmsearch.data import PlainLoader
from lmsearch.engine.loop import run_epochs
from lmsearch.engine.objectives import Objective, Scores
from lmsearch.engine.randomness import key
from lmsearch.engine.recipe import Goal, Recipe, trainer_for
from lmsearch.engine.train import Precision, evaluate
from lmsearch.genotype import Genotype, check_depth
from lmsearch.literature import genotype_named
from lmsearch.models import model_names
from lmsearch.models.factory import model_family

Model = str | Callable[[Sequence[Sequence[str]], str], nn.Module]
Choice = Genotype | str | Path | Sequence[Sequence[str]]


@dataclass(frozen=True)
class Retrained:
    """A trained network with its scores on what it was judged on, such as {"loss": 0.1, "accuracy": 0.97}."""

    module: nn.Module
    scores: dict[str, float]


def run_retrain(
    model: Model,
    genotype: Choice,
    train: Batches,
    test: Batches,
    *,
    objective: str | Losses | None = None,
    metric: str | None = None,
    epochs: int = 12,
    lr: float = 3e-3,
    seed: int = 0,
    device: str | torch.device = "auto",
    threads: int | None = None,
) -> Retrained:
    """Train the network with a genotype's directions from scratch on `train`, and return it with its scores on `test`.

    model, train, objective, epochs, lr, seed, device and threads are as in run_search; genotype is what run_search returns, a
    shipped name, a set of the literature such as "cross", a file, or a list of directions for each mixer. metric: "accuracy"
    (the default for classes) or "balanced_accuracy"; an objective of one's own is judged by its losses. Nothing is chosen on
    `test`. Raises as run_search does, and GenotypeError where the genotype is of another number of mixers.
    """
    seed, epochs = checked_seed(seed), checked_epochs(epochs)
    judged = objective_of(objective, metric=metric)
    check_apart(train=train, test=test)
    with on_device(device, threads) as where:
        loaders = loader_of(train, name="train", seed=seed), loader_of(test, name="test", seed=seed)
        net = open_net(model, loaders, judged)
        chosen = genotype_of(genotype, net)
        module, scores = trained(net, chosen, loaders, judged, recipe_for(loaders[0], epochs, lr), Precision(where), seed=seed)
    return Retrained(module, {"loss": scores.loss, judged.metric.name: scores.score})


def genotype_of(given: Choice, net: Net) -> Genotype:
    """Return a genotype that fits the net; raise GenotypeError for any other."""
    depth = len(net.order)
    if isinstance(given, str | Path):
        family = model_family(net.name) if net.name in model_names() else ""
        return genotype_named(given, family=family, depth=depth, model=net.name)
    found = given if isinstance(given, Genotype) else Genotype.from_directions(given)
    check_depth(found, depth, net.name)
    return found


def recipe_for(loader: PlainLoader, epochs: int, lr: float) -> Recipe:
    """Return the recipe for a loader's batches."""
    return recipe_of(epochs, len(next(iter(loader)).inputs), lr)


def trained(
    net: Net,
    genotype: Genotype,
    loaders: tuple[PlainLoader, PlainLoader],
    objective: Objective,
    recipe: Recipe,
    precision: Precision,
    *,
    seed: int,
) -> tuple[nn.Module, Scores]:
    """Return the network of a genotype, trained on the first of the loaders, and its scores on the second."""
    train, test = loaders
    torch.manual_seed(key(seed, "init"))
    module = net.make([list(names) for names in genotype.directions], DERIVED)
    for first in (next(iter(loader)) for loader in loaders):
        check_objective(objective, module, first.inputs, first.target_values)
    module = module.to(precision.device)
    trainer = trainer_for(
        recipe, module, module.named_parameters(), Goal(objective), precision, steps_per_epoch=len(train), seed=seed
    )
    run_epochs(trainer, train, epochs=recipe.epochs)
    return module.eval(), evaluate(module, test, objective, precision, what="test")
