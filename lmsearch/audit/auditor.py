"""The parts of an audit: controls, random architectures with two seeds, and rounds of search against random and hand-made."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, replace

import numpy as np

from lmsearch.audit.ledger import Ledger, OutOfTime, Row
from lmsearch.audit.setting import Plan, Setting, Speed, make_plan, measure
from lmsearch.audit.shuffled import shuffled
from lmsearch.engine.finite import TrainingDiverged
from lmsearch.engine.randomness import key
from lmsearch.errors import ConfigError
from lmsearch.scan.directions import label
from lmsearch.search.derivation.choice import kept
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.discrete.strategies import History, Tried, draw_new
from lmsearch.search.session import SearchSession
from lmsearch.status import Status

log = logging.getLogger(__name__)
MASKED = "masked"


@dataclass(frozen=True)
class Planted:
    """The control that a search must pass: a small planted task on the user's grid, searched with the user's options."""

    setting: Setting
    direction: str
    epochs: int


@dataclass(frozen=True)
class Auditor:
    """Runs every part once; `ledger` remembers them."""

    setting: Setting
    planted: Planted
    ledger: Ledger
    minutes: float

    def run(self) -> tuple[Plan, list[Row]]:
        """Return the plan and the rows of all parts; those that there was no time for are missing."""
        plan = self.plan()
        self.ledger.total = plan.parts
        try:
            self.ledger.once("control planted", self.find_planted)
            self.ledger.once("control shuffled", lambda: self.search_shuffled(plan))
            pool = self.pool(plan)
            for number in range(plan.rounds):
                self.race(plan, number, pool[number * plan.per_round : (number + 1) * plan.per_round])
            for architecture in pool[: plan.repeated]:
                self.train(plan, architecture, self.setting.seed + plan.rounds, "second seed")
        except OutOfTime:
            log.info("audit  the time is up; parts that were left out make the verdict less sure")
        return plan, list(self.ledger.rows.values())

    def plan(self) -> Plan:
        """Measure the speed once and plan by it."""

        def measured() -> Row:
            speed = measure(self.setting)
            return {"speed": asdict(speed), "plan": asdict(make_plan(self.setting, speed, minutes=self.minutes))}

        row = self.ledger.once("plan", measured, must=True)
        plan, speed = Plan(**row["plan"]), Speed(**row["speed"])
        self.compare_plans(plan, speed)
        log.info(
            "audit  %d parts of %d epochs (recipe: %d): about %.1f minutes",
            plan.parts,
            plan.epochs,
            self.setting.recipe.epochs,
            speed.total_s(plan) / 60,
        )
        return plan

    def compare_plans(self, plan: Plan, speed: Speed) -> None:
        """Say so where more minutes would give another plan than the one that is gone on with."""
        try:
            now = make_plan(self.setting, speed, minutes=self.minutes)
        except ConfigError:  # too few for any plan, but what is done can be read again
            return
        if now != plan:
            log.warning(
                "audit  goes on as it was planned, with %d rounds of %d epochs; minutes=%g would give %d of %d (overwrite=true)",
                plan.rounds,
                plan.epochs,
                self.minutes,
                now.rounds,
                now.epochs,
            )

    def find_planted(self) -> Row:
        """Search for a planted direction."""
        planted = self.planted
        told = searched(planted.setting, epochs=planted.epochs)
        return {"planted": label(planted.direction), "found": told["derived"][:1] == [[label(planted.direction)]]} | told

    def search_shuffled(self, plan: Plan) -> Row:
        """Search on targets that the images do not tell."""
        setting = replace(self.setting, source=shuffled(self.setting.source, seed=self.setting.seed))
        return searched(setting, epochs=plan.epochs)

    def pool(self, plan: Plan) -> list[Architecture]:
        """Draw the random architectures of all rounds, no one twice while the space has enough others for a round."""
        space = self.setting.space
        drawn: list[Architecture] = []
        known: list[Architecture] = []
        rng = np.random.default_rng(key(self.setting.seed, "audit"))
        for _ in range(plan.rounds):
            if space.size - len(known) < plan.per_round:
                known = []
            for _ in range(plan.per_round):
                known.append(draw_new(History(space, [Tried(a, 0.0) for a in known], set(known)), rng))
            drawn += known[-plan.per_round :]
        return drawn

    def race(self, plan: Plan, number: int, random: list[Architecture]) -> None:
        """One round: search, derive and train; train the hand-made directions; train random ones for the same cost."""
        seed = self.setting.seed + number

        def search_and_train() -> Row:
            try:
                found = self.setting.search(epochs=plan.epochs, seed=seed)
                derived = kept(found.derive()[0])
            except TrainingDiverged as error:
                return {"val": -math.inf, "test": -math.inf, "reason": str(error)}
            trained = self.trained(plan, derived, seed)
            return trained | {"search_cost": found.cost, "scores": self.scores(plan, found)}

        self.ledger.once(f"searched round {number}", search_and_train)
        self.ledger.once(f"hand-made round {number}", lambda: self.trained(plan, self.setting.hand_made, seed))
        for architecture in random:
            self.train(plan, architecture, seed, f"random round {number}")

    def train(self, plan: Plan, architecture: Architecture, seed: int, what: str) -> None:
        """Train one random architecture with one seed."""
        name = "/".join("+".join(layer) for layer in architecture)
        self.ledger.once(f"{what}: {name}", lambda: self.trained(plan, architecture, seed))

    def trained(self, plan: Plan, architecture: Architecture, seed: int) -> Row:
        """Return validation and test score (higher is better) of one training, and its cost in branch-scan steps."""
        val, test = self.setting.alone(epochs=plan.epochs, seed=seed).val_and_test(architecture)
        return {"architecture": architecture, "seed": seed, "val": val.score, "test": test.score, "cost": val.cost}

    def scores(self, plan: Plan, found: SearchSession) -> list[Row]:
        """Return what a supernet says about every random architecture: loss when masked and, of alphas, log probability.

        Architectures whose masked losses are not finite are left out.
        """
        shared = found.shared()
        trained = found.trained
        losses = {a: shared(a).loss for a in dict.fromkeys(self.pool(plan))}
        return [
            {"architecture": a, MASKED: -loss} | ({"alpha": trained.alpha_score(a)} if found.learns else {})
            for a, loss in losses.items()
            if math.isfinite(loss)
        ]


def searched(setting: Setting, *, epochs: int) -> Row:
    """Return what a search derives, and its verdict on that; its status is "diverged" where the training did."""
    try:
        found = setting.search(epochs=epochs, seed=setting.seed)
        choices, _ = found.derive()
        health = found.health(choices)
    except TrainingDiverged as error:
        return {"derived": [], "status": Status.DIVERGED, "reason": str(error)}
    named = [[label(name) for name in layer] for layer in kept(choices)]
    return {"derived": named, "status": health.status, "reason": health.reason}
