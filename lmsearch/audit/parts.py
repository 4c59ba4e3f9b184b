"""The parts of an audit, each a function of plain values, so that it runs in this process or in another one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lmsearch.audit.ledger import Row
from lmsearch.audit.rows import ARM
from lmsearch.audit.setting import Plan, Setting
from lmsearch.audit.shuffled import shuffled
from lmsearch.engine.finite import TrainingDiverged
from lmsearch.engine.randomness import key
from lmsearch.engine.side_by_side import Job
from lmsearch.scan.directions import label
from lmsearch.search.derivation.choice import kept
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.discrete.strategies import History, Tried, draw_new
from lmsearch.search.session import SearchSession
from lmsearch.status import Status

MASKED = "masked"


@dataclass(frozen=True)
class Planted:
    """The control that a search must pass: a small planted task on the user's grid, searched with the user's options."""

    setting: Setting
    direction: str
    epochs: int


def parts_of(setting: Setting, planted: Planted, plan: Plan) -> Mapping[str, Job]:
    """Return all parts but the plan itself, by key, in the order of one after the other: each gives its row.

    A round is one search, derived and trained, the hand-made directions, those of the literature's arms, and
    random ones for the same cost.
    """
    pool = draw_pool(setting, plan)
    parts: dict[str, Job] = {
        "control planted": partial(find_planted, planted),
        "control shuffled": partial(search_shuffled, setting, epochs=plan.epochs),
    }
    for number in range(plan.rounds):
        seed = setting.seed + number
        parts[f"searched round {number}"] = partial(search_and_train, setting, pool, epochs=plan.epochs, seed=seed)
        train = partial(trained, setting, epochs=plan.epochs, seed=seed)
        parts[f"hand-made round {number}"] = partial(train, setting.hand_made)
        for name, architecture in setting.arms.items():
            parts[f"{ARM}{name} round {number}"] = partial(train, architecture)
        for architecture in pool[number * plan.per_round : (number + 1) * plan.per_round]:
            parts[f"random round {number}: {named(architecture)}"] = partial(train, architecture)
    for architecture in pool[: plan.repeated]:
        again = partial(trained, setting, architecture, epochs=plan.epochs, seed=setting.seed + plan.rounds)
        parts[f"second seed: {named(architecture)}"] = again
    return parts


def named(architecture: Architecture) -> str:
    """Return an architecture in a key."""
    return "/".join("+".join(layer) for layer in architecture)


def draw_pool(setting: Setting, plan: Plan) -> list[Architecture]:
    """Draw the random architectures of all rounds, no one twice while the space has enough others for a round."""
    space = setting.space
    drawn: list[Architecture] = []
    known: list[Architecture] = []
    rng = np.random.default_rng(key(setting.seed, "audit"))
    for _ in range(plan.rounds):
        if space.size - len(known) < plan.per_round:
            known = []
        for _ in range(plan.per_round):
            known.append(draw_new(History(space, [Tried(a, 0.0) for a in known], set(known)), rng))
        drawn += known[-plan.per_round :]
    return drawn


def find_planted(planted: Planted) -> Row:
    """Search for a planted direction."""
    told = searched(planted.setting, epochs=planted.epochs)
    return {"planted": label(planted.direction), "found": told["derived"][:1] == [[label(planted.direction)]]} | told


def search_shuffled(setting: Setting, *, epochs: int) -> Row:
    """Search on targets that the images do not tell."""
    return searched(replace(setting, source=shuffled(setting.source, seed=setting.seed)), epochs=epochs)


def searched(setting: Setting, *, epochs: int) -> Row:
    """Return what a search derives, and its verdict on that; its status is "diverged" where the training did."""
    try:
        found = setting.search(epochs=epochs, seed=setting.seed)
        choices, _ = found.derive()
        health = found.health(choices)
    except TrainingDiverged as error:
        return {"derived": [], "status": Status.DIVERGED, "reason": str(error)}
    chosen = [[label(name) for name in layer] for layer in kept(choices)]
    return {"derived": chosen, "status": health.status, "reason": health.reason}


def search_and_train(setting: Setting, pool: Sequence[Architecture], *, epochs: int, seed: int) -> Row:
    """Search, derive and train what was derived; `pool` is what the supernet is asked about."""
    try:
        found = setting.search(epochs=epochs, seed=seed)
        derived = kept(found.derive()[0])
    except TrainingDiverged as error:
        return {"val": -math.inf, "test": -math.inf, "reason": str(error)}
    row = trained(setting, derived, epochs=epochs, seed=seed)
    return row | {"search_cost": found.cost, "scores": scores(found, pool)}


def trained(setting: Setting, architecture: Architecture, *, epochs: int, seed: int) -> Row:
    """Return validation and test score (higher is better) of one training, and its cost in branch-scan steps."""
    val, test = setting.alone(epochs=epochs, seed=seed).val_and_test(architecture)
    return {"architecture": architecture, "seed": seed, "val": val.score, "test": test.score, "cost": val.cost}


def scores(found: SearchSession, pool: Sequence[Architecture]) -> list[Row]:
    """Return what a supernet says about every random architecture: loss when masked and, of alphas, log probability.

    Architectures whose masked losses are not finite are left out.
    """
    shared, told = found.shared(), found.trained
    losses = {a: shared(a).loss for a in dict.fromkeys(pool)}
    return [
        {"architecture": a, MASKED: -loss} | ({"alpha": told.alpha_score(a)} if found.learns else {})
        for a, loss in losses.items()
        if math.isfinite(loss)
    ]
