"""The plan of a quick audit, made before anything is trained, and made again where its trainings were too brief to tell."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lmsearch.audit.ledger import Ledger, Row
from lmsearch.audit.quick import (
    MENUS,
    ORDER,
    Control,
    Order,
    Pace,
    QuickPlan,
    as_trained,
    control_steps,
    measure_pace,
    minutes_of,
    quick_plan,
    steps_of,
    steps_that_decide,
)
from lmsearch.audit.setting import Setting
from lmsearch.engine.side_by_side import Workers
from lmsearch.engine.threads import exactly
from lmsearch.errors import ConfigError
from lmsearch.report.page.folder import FURTHER

TIME = "time"  # the key of the plan's row
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planner:
    """What a plan goes by."""

    setting: Setting
    control: Control
    orders: Sequence[Order]
    workers: Workers
    minutes: float

    def planned(self) -> Row:
        """Measure the speed and plan by it; raise ConfigError where nothing fits."""
        with exactly(self.workers.threads):
            pace = measure_pace(self.setting, self.control, self.orders)
        return {"pace": asdict(pace), "quick plan": asdict(self.plan_by(pace))}

    def plan_by(self, pace: Pace) -> QuickPlan:
        """Return the plan for a speed."""
        at_once = self.workers.number
        return quick_plan(self.setting, self.control, pace, orders=self.sets, minutes=self.minutes, at_once=at_once)

    @property
    def sets(self) -> int:
        """How many of the orders are sets of directions."""
        return sum(not order.single for order in self.orders)

    def minutes_to_decide(self, pace: Pace) -> float:
        """Return how many minutes, at this speed, give trainings that are long enough for an answer."""
        steps, at_once = steps_that_decide(self.setting, self.control), self.workers.number
        return minutes_of(self.setting, self.control, pace, MENUS[-1], steps, orders=self.sets, at_once=at_once)

    def minutes_lacking(self, row: Row) -> int:
        """Return the minutes that an answer needs where a plan's trainings are too brief for one, and need not be; else 0."""
        too_brief = row["quick plan"]["steps"] < control_steps(self.control) <= steps_of(self.setting)
        return math.ceil(self.minutes_to_decide(Pace(**row["pace"]))) if too_brief else 0

    def settled(self, ledger: Ledger) -> Row:
        """Return pace and plan: those of the ledger, or new ones where it has none.

        Trainings of an earlier plan that are shorter than the controls, and now need not be, are dropped and planned again.
        """
        row = ledger.once(TIME, self.planned, must=True)
        plan, enough = as_trained(self.setting, QuickPlan(**row["quick plan"])), control_steps(self.control)
        row = row | {"quick plan": asdict(plan)}
        try:
            now = self.plan_by(Pace(**row["pace"]))
            again = self.planned() if plan.steps < enough <= now.steps else None
        except ConfigError:  # too few minutes for any plan, but what is done can be read again
            return row
        if again is not None and again["quick plan"]["steps"] >= enough:
            words = "audit  planned again: trainings of %d steps, shorter than the %d of the controls, are dropped"
            log.warning(words, plan.steps, enough)
            ledger.run_dir.write(FURTHER, f"{plan.steps} steps before, {again['quick plan']['steps']} now\n")
            ledger.forget(key for key in list(ledger.rows) if key == TIME or key.startswith(ORDER))
            return ledger.once(TIME, lambda: again, must=True)
        if again is not None:
            log.warning("audit  goes on with trainings of %d steps: the machine is slower now", plan.steps)
            return row | {"pace": again["pace"]}
        if now != plan:
            would = (
                f"minutes={self.minutes:g} workers={self.workers.number} would give {now.sets} of {now.steps} (overwrite=true)"
            )
            log.warning("audit  goes on as it was planned, with %d sets of %d steps; %s", plan.sets, plan.steps, would)
        return row


def left_out(setting: Setting, orders: Sequence[Order], trained: Sequence[Order]) -> str:
    """Return which arms of arms= are not among the `trained` of all orders, and why; "" for none."""
    keep, sets = [*setting.keep], sum(not order.single for order in trained)
    known, done = {order.name for order in orders}, {order.name for order in trained}
    why: dict[str, list[str]] = {}
    for name, own in setting.arms.items():
        if [len(layer) for layer in own] != keep:
            kept = keep[0] if len(set(keep)) == 1 else keep
            why.setdefault(f"another number of directions per layer than the search keeps, {kept}", []).append(name)
        elif name not in known:
            why.setdefault("trained under another name", []).append(name)
        elif name not in done:
            why.setdefault(f"no room among the {sets} sets that are trained", []).append(name)
    told = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in why.items())
    return f"Of arms= these are not trained: {told}." if told else ""
