"""The parts of an audit, each a function of plain values, so that it runs in this process or in another one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
from lmsearch.engine.unfinished import Unfinished
from lmsearch.scan.directions import label
from lmsearch.search.derivation.choice import kept
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.discrete.evaluators import SharedWeights
from lmsearch.search.discrete.strategies import History, Tried, draw_new
from lmsearch.search.session import SearchSession
from lmsearch.search.trained import Trained
from lmsearch.status import Status

MASKED = "masked"


@dataclass(frozen=True)
class Planted:
    """The control that a search must pass: a small planted task on the user's grid, searched with the user's options."""

    setting: Setting
    direction: str
    epochs: int


def parts_of(setting: Setting, planted: Planted, plan: Plan, *, within: Unfinished | None = None) -> Mapping[str, Job]:
    """Return all parts but the plan itself, by key, in the order of one after the other: each gives its row.

    A round is one search, derived and trained, the hand-made directions, those of the literature's arms, and
    random ones for the same cost. A part that is stopped is kept `within` that.
    """
    pool = draw_pool(setting, plan)
    parts: dict[str, Job] = {}

    def add(key: str, work: Callable[..., Row], *what: object, **how: int) -> None:
        parts[key] = partial(work, setting.part(key, within), *what, epochs=plan.epochs, **how)

    parts["control planted"] = partial(find_planted, planted, within=within)
    add("control shuffled", search_shuffled)
    for number in range(plan.rounds):
        seed = setting.seed + number
        add(f"searched round {number}", search_and_train, pool, seed=seed)
        add(f"hand-made round {number}", trained, setting.hand_made, seed=seed)
        for name, architecture in setting.arms.items():
            add(f"{ARM}{name} round {number}", trained, architecture, seed=seed)
        for architecture in pool[number * plan.per_round : (number + 1) * plan.per_round]:
            add(f"random round {number}: {named(architecture)}", trained, architecture, seed=seed)
    for architecture in pool[: plan.repeated]:
        add(f"second seed: {named(architecture)}", trained, architecture, seed=setting.seed + plan.rounds)
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


def find_planted(planted: Planted, *, within: Unfinished | None = None) -> Row:
    """Search for a planted direction."""
    told = searched(planted.setting.part("control planted", within), epochs=planted.epochs)
    return {"planted": label(planted.direction), "found": told["derived"][:1] == [[label(planted.direction)]]} | told


def search_shuffled(setting: Setting, *, epochs: int) -> Row:
    """Search on targets that the images do not tell."""
    return searched(replace(setting, source=shuffled(setting.source, seed=setting.seed)), epochs=epochs)


def searched(setting: Setting, *, epochs: int) -> Row:
    """Return what a search derives, and its verdict on that; its status is "diverged" where the training did."""
    try:
        found = setting.search(epochs=epochs, seed=setting.seed)
        with setting.trained(found) as supernet:
            choices, _ = supernet.derive()
            fresh = found.recheck(lambda number, session: setting.train(session))
            health = supernet.health(choices, fresh=fresh)
    except TrainingDiverged as error:
        return {"derived": [], "status": Status.DIVERGED, "reason": str(error)}
    chosen = [[label(name) for name in layer] for layer in kept(choices)]
    return {"derived": chosen, "status": health.status, "reason": health.reason}


def search_and_train(setting: Setting, pool: Sequence[Architecture], *, epochs: int, seed: int) -> Row:
    """Search, derive and train what was derived; `pool` is what the supernet is asked about."""
    try:
        found = setting.search(epochs=epochs, seed=seed)
        with setting.trained(found) as supernet:
            derived = kept(supernet.derive()[0])
            told = scores(found, supernet, pool)
            row = trained(setting, derived, epochs=epochs, seed=seed)
    except TrainingDiverged as error:
        return {"val": -math.inf, "test": -math.inf, "reason": str(error)}
    return row | {"search_cost": found.cost, "scores": told}


def trained(setting: Setting, architecture: Architecture, *, epochs: int, seed: int) -> Row:
    """Return validation and test score (higher is better) of one training, and its cost in branch-scan steps."""
    val, test = setting.alone(epochs=epochs, seed=seed).val_and_test(architecture)
    return {"architecture": architecture, "seed": seed, "val": val.score, "test": test.score, "cost": val.cost}


def masked_loss(shared: SharedWeights, architecture: Architecture) -> float:
    """Return the held-out loss of an architecture inside a supernet."""
    return shared(architecture).loss


def scores(found: SearchSession, supernet: Trained, pool: Sequence[Architecture]) -> list[Row]:
    """Return what a supernet says about every random architecture: loss when masked and, of alphas, log probability.

    Architectures whose masked losses are not finite are left out.
    """
    shared = found.shared()
    losses = {a: supernet.once(f"{MASKED} {named(a)}", partial(masked_loss, shared, a)) for a in dict.fromkeys(pool)}
    return [
        {"architecture": a, MASKED: -loss} | ({"alpha": supernet.alpha_score(a)} if found.learns else {})
        for a, loss in losses.items()
        if math.isfinite(loss)
    ]
