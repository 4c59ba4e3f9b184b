"""lmsearch audit quick=true: before any search, brief trainings say whether order matters on these data at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from lmsearch.audit.constant import constant_loss
from lmsearch.audit.ledger import PARTS, Ledger, OutOfTime
from lmsearch.audit.quick import (
    BALANCED,
    LOSS,
    Control,
    Pace,
    QuickPlan,
    balanced,
    brief,
    control_steps,
    jobs_of,
    orders_of,
    part_of,
    planned_s,
    steps_of,
    taken,
)
from lmsearch.audit.quick_planner import TIME, Planner, left_out
from lmsearch.audit.quick_verdict import read_quick
from lmsearch.audit.setting import Setting
from lmsearch.context import tell
from lmsearch.data import Source
from lmsearch.engine.log import environment
from lmsearch.engine.side_by_side import Job, Workers
from lmsearch.engine.train import Precision
from lmsearch.figures.audit import audit_figure
from lmsearch.literature import ARMS
from lmsearch.models.factory import model_family
from lmsearch.report.page.folder import FURTHER
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.settings.tasks import Audit
from lmsearch.tasks.parts.audited import make_control, make_setting, open_ledger
from lmsearch.tasks.parts.build import build_objective, build_precision
from lmsearch.tasks.parts.memory import check_memory
from lmsearch.tasks.parts.page import leave_page, note_network
from lmsearch.tasks.parts.readers import settle_readers
from lmsearch.tasks.parts.run_dir import folder_of, open_run_dir, telling_failure, write_config
from lmsearch.tasks.parts.settle import settle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
TASK = "quick-audit"  # begins the name of its folder
ORDERLESS_TASK = "token_mean"
NOTHING_TO_FIND = 3  # exit code with strict=true


def quick_audit(settings: Audit) -> int:
    """Run the quick audit, or go on with it; write audit.json and audit.png, print the answer; return 0 (see strict)."""
    precision = build_precision(settings)
    settings, source = settle(settings)
    precision = replace(precision, micro_batch=settings.micro_batch)
    settings = settle_readers(settings, source, precision.device, at_once=settings.workers)
    setting = brief(make_setting(settings, source, precision))
    control = controls(settings, source, precision, setting)
    orders = orders_of(setting, fitting(settings, setting))
    workers = Workers.asked_for(settings.workers, settings.threads, settings.device)
    planner = Planner(setting, control, orders, workers, settings.minutes)
    check_memory(setting.recipe.batch_size, setting.derived_spec, precision, workers=workers.number)
    folder = folder_of(settings, TASK)
    known = (folder / PARTS).is_file() or settings.resume == "must"  # which is refused where nothing is known
    ahead = None if known else planner.planned()  # before anything is written
    with open_run_dir(settings, TASK) as run_dir:
        ledger = open_ledger(settings, run_dir, setting, first=TIME, plan=lambda: ahead or planner.planned())
        with telling_failure(run_dir):
            row = planner.settled(ledger)
        plan = QuickPlan(**row["quick plan"])
        if lacks := left_out(setting, orders, taken(orders, plan)):
            log.warning("audit  %s", lacks)
        needed, most = planner.minutes_lacking(row), steps_of(setting)
        if most < (least := control_steps(control)):
            log.warning(
                "audit  the recipe's %d steps, fewer than the %d of the controls, give no answer; more epochs= do", most, least
            )
        tell_plan(plan, planned_s(
            setting, control, Pace(**row["pace"]), seeds=plan.seeds, sets=plan.sets, steps=plan.steps
        ) / workers.number, needed=needed)  # fmt: skip
        write_config(run_dir, settings)
        note_network(run_dir, setting.spec, source)
        with telling_failure(run_dir):
            complete(ledger, jobs_of(setting, control, orders, plan, within=ledger.unfinished), workers)
        score = build_objective(source.info, settings.metric).metric.score_name
        found = read_quick(
            ledger.rows,
            taken(orders, plan),
            plan,
            first_seed=settings.seed,
            planted=control.direction,
            control_steps=control_steps(control),
            constant=constant_loss(part_of(setting, plan), batch_size=setting.recipe.batch_size, alike=balanced(setting)),
            compared=BALANCED if balanced(setting) else LOSS,
        )
        measured = with_cost(found, ledger, plan, lacks) | {"score": score}
        measured["steps"] |= {"most": most, "minutes_needed": needed}
        ledger.unfinished.folder.remove_if_empty()
        run_dir.write_json("audit.json", measured | {"environment": environment(settings.seed)})
        run_dir.remove(FURTHER)
        run_dir.write_figure("audit.png", lambda: figure_of(ledger.rows, measured))
    *reasons, answer = measured["verdict"]["sentences"]
    tell("\n".join(reasons))
    print(answer)
    tell(f"audit: {run_dir / 'audit.json'}   figure: {run_dir / 'audit.png'}")
    leave_page(run_dir)
    return NOTHING_TO_FIND if settings.strict and measured["verdict"]["answer"] != "yes" else 0


def tell_plan(plan: QuickPlan, seconds: float, *, needed: int) -> None:
    """Say how much is trained, and about how long that takes; warn where only so many minutes as are `needed` give an answer."""
    trainings = plan.seeds * (2 + plan.sets)
    log.info("audit  %d trainings of %d steps, and controls: about %.1f minutes", trainings, plan.steps, seconds / 60)
    if needed:
        log.warning("audit  trainings of %d steps are too brief for an answer; about minutes=%d gives one", plan.steps, needed)


def controls(settings: Audit, source: Source, precision: Precision, setting: Setting) -> Control:
    """Return the planted tasks with and without a direction that matters."""
    planted = make_control(settings, source, precision, setting.options)
    orderless = make_control(settings, source, precision, setting.options, task=ORDERLESS_TASK)
    return Control(planted.setting, orderless.setting, planted.direction)


def fitting(settings: Audit, setting: Setting) -> Mapping[str, Architecture]:
    """Return the arms of the literature that fit the model, or those that arms= names."""
    if setting.arms:
        return setting.arms
    family, depth = model_family(settings.model.name), len(setting.keep)
    found = {name: arm.layers(family, depth) for name, arm in ARMS.items()}
    return {name: layers for name, layers in found.items() if layers is not None}


def complete(ledger: Ledger, jobs: Mapping[str, Job], workers: Workers) -> None:
    """Do the trainings that are not done, as long as there is time."""
    ledger.total = len(jobs) + 1
    if workers.number > 1:
        workers.each(ledger.startable(jobs), ledger.record)
        return
    try:
        for name, job in jobs.items():
            ledger.once(name, job)
    except OutOfTime:
        log.info("audit  the time is up; trainings that were left out make the answer less sure")


def with_cost(found: dict[str, Any], ledger: Ledger, plan: QuickPlan, lacks: str) -> dict[str, Any]:
    """Return what was found with the plan and what it took; sentences before the answer say that and what is not trained."""
    cost = (
        f"Cost: {len(ledger.rows)} parts in {ledger.spent_s:.0f} s of computing; every net trained {plan.epochs} epochs on"
        f" {plan.images} images ({plan.steps} steps), {plan.seeds} seeds. The test set was not looked at."
    )
    found["verdict"]["sentences"][-1:-1] = [lacks, cost] if lacks else [cost]
    return found | {"quick": asdict(plan), "spent_s": round(ledger.spent_s, 1)}


def figure_of(rows: Mapping[str, Any], measured: Mapping[str, Any]) -> Figure:
    """Return the figure: the losses of all orders, with intervals over seeds."""
    seeds = [
        [row["loss"] for key, row in rows.items() if key.startswith(f"order {order['name']} s")] for order in measured["orders"]
    ]
    arms = {order["name"]: order["loss"] for order in measured["orders"]}
    title = f"order matters enough for a search: {measured['verdict']['answer']}"
    return audit_figure(seeds, arms, labels=("validation loss", "validation loss, 95 % interval"), title=title)
