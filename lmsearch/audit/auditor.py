"""An audit: controls, random architectures with two seeds, and rounds of search against random and hand-made."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial

from lmsearch.audit.ledger import Ledger, OutOfTime, Row
from lmsearch.audit.parts import Planted, parts_of
from lmsearch.audit.setting import Plan, Setting, Speed, make_plan, measure
from lmsearch.engine.side_by_side import Job, Workers
from lmsearch.engine.threads import exactly
from lmsearch.errors import ConfigError

PLAN = "plan"  # the key of the first part
log = logging.getLogger(__name__)


def plan_row(setting: Setting, *, minutes: float, workers: Workers) -> Row:
    """Measure the speed, with the threads that parts will have, and plan by it; raise ConfigError where nothing fits."""
    with exactly(workers.threads):
        speed = measure(setting)
    plan = make_plan(setting, speed, minutes=minutes, at_once=workers.number)
    return {"speed": asdict(speed), "plan": asdict(plan)}


@dataclass(frozen=True)
class Auditor:
    """Runs every part once, as many at a time as there are `workers`; `ledger` remembers them. All may take `minutes`."""

    setting: Setting
    planted: Planted
    ledger: Ledger
    minutes: float
    workers: Workers

    def run(self) -> tuple[Plan, list[Row], list[str]]:
        """Return the plan, the rows of all parts, in their order, and the keys of those that there was no time for."""
        plan = self.plan()
        parts = parts_of(self.setting, self.planted, plan, within=self.ledger.unfinished)
        self.ledger.total = 1 + len(parts)
        try:
            self.complete(parts)
        except OutOfTime:
            log.info("audit  the time is up; parts that were left out make the verdict less sure")
        place = {key: number for number, key in enumerate(parts)}
        rows = sorted(self.ledger.rows.values(), key=lambda row: place.get(row["key"], -1))
        return plan, rows, [key for key in parts if key not in self.ledger.rows]

    def complete(self, parts: Mapping[str, Job]) -> None:
        """Do the parts that are not done; raise OutOfTime where one of them may not start any more."""
        if self.workers.number == 1:
            for key, work in parts.items():
                self.ledger.once(key, work)
            return
        self.workers.each(self.ledger.startable(parts), self.ledger.record)
        if not all(key in self.ledger.rows for key in parts):
            raise OutOfTime

    def plan(self) -> Plan:
        """Return the plan that the ledger has, or make it."""
        first = partial(plan_row, self.setting, minutes=self.minutes, workers=self.workers)
        row = self.ledger.once(PLAN, first, must=True)
        plan, speed = Plan(**row["plan"]), Speed(**row["speed"])
        self.compare_plans(plan, speed)
        log.info(
            "audit  %d parts of %d epochs (recipe: %d): about %.1f minutes",
            plan.parts + plan.rounds * len(self.setting.arms),
            plan.epochs,
            self.setting.recipe.epochs,
            speed.total_s(plan, arms_cost=self.setting.arms_cost) / self.workers.number / 60,
        )
        return plan

    def planned(self, speed: Speed) -> Plan:
        """Return the plan that fits into the minutes; raise ConfigError where none does."""
        return make_plan(self.setting, speed, minutes=self.minutes, at_once=self.workers.number)

    def compare_plans(self, plan: Plan, speed: Speed) -> None:
        """Say so where more minutes would give another plan than the one that is gone on with."""
        try:
            now = self.planned(speed)
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
