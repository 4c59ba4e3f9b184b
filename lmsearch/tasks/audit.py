"""lmsearch audit: is a search over scan directions worth its cost on this data, and how sure is that?"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from lmsearch.audit.auditor import PLAN, Auditor, plan_row
from lmsearch.audit.ledger import Ledger, Row
from lmsearch.audit.setting import Plan, Setting
from lmsearch.audit.verdict import NO_TEST_SET, read, trainings
from lmsearch.config import settings_of
from lmsearch.context import tell
from lmsearch.engine.log import environment
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.side_by_side import Workers
from lmsearch.errors import ConfigError
from lmsearch.figures.audit import audit_figure
from lmsearch.report.page.folder import FURTHER
from lmsearch.settings.tasks import Audit
from lmsearch.tasks.parts.audited import identity, make_control, make_setting, open_ledger
from lmsearch.tasks.parts.build import build_objective, build_precision
from lmsearch.tasks.parts.memory import check_memory
from lmsearch.tasks.parts.page import leave_page, note_network
from lmsearch.tasks.parts.quick_audit import quick_audit
from lmsearch.tasks.parts.readers import settle_readers
from lmsearch.tasks.parts.run_dir import open_run_dir, telling_failure, write_config
from lmsearch.tasks.parts.search_setup import search_options
from lmsearch.tasks.parts.settle import settle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
__all__ = ["identity", "make_control", "make_setting", "run"]
NOT_WARRANTED = 3  # exit code with strict=true
OF_A_SEARCH = {"budget": None}  # a key that a search has and an audit has not; runs of version 0.1.0 count it


def run(cfg: DictConfig) -> int:
    """Run the audit, or go on with it; write audit.json and audit.png, print the verdict, and return 0 (see strict)."""
    settings = settings_of(Audit, cfg).changed(OF_A_SEARCH)
    if (method := settings.search.method) != "supernet":
        raise ConfigError(f"search.method={method!r} is not audited; accepted: supernet (random is one of the arms)")
    if settings.quick:
        return quick_audit(settings)
    precision = build_precision(settings)
    settings, source = settle(settings)
    precision = replace(precision, micro_batch=settings.micro_batch)
    tested_on = "validation" if source.test is source.val else "test"
    if tested_on != "test":
        log.warning(NO_TEST_SET)
    loaders = search_options(settings.supernet).train_loaders
    settings = settle_readers(settings, source, precision.device, at_once=settings.workers, loaders=loaders)
    setting = make_setting(settings, source, precision)
    running = setting.options.branches_at_once(setting.keep, setting.candidates)
    workers = Workers.asked_for(settings.workers, settings.threads, settings.device)
    check_memory(settings.batch_size, setting.spec, precision, running=running, workers=workers.number)
    planted = make_control(settings, source, precision, setting.options)
    plan_first = partial(plan_row, setting, minutes=settings.minutes, workers=workers)
    with open_run_dir(settings, "audit") as run_dir:
        ledger = open_ledger(settings, run_dir, setting, first=PLAN, plan=plan_first)
        write_config(run_dir, settings)
        note_network(run_dir, setting.spec, source)
        with telling_failure(run_dir):
            plan, rows, not_done = Auditor(setting, planted, ledger, settings.minutes, workers).run()
        measured = write_audit(settings, run_dir, setting, ledger, plan, rows, tested_on=tested_on, not_done=not_done)
    *reasons, answer = measured["verdict"]["sentences"]
    tell("\n".join(reasons))
    print(answer)
    tell(f"audit: {run_dir / 'audit.json'}   figure: {run_dir / 'audit.png'}")
    leave_page(run_dir)
    return NOT_WARRANTED if settings.strict and measured["verdict"]["answer"] != "yes" else 0


def write_audit(
    settings: Audit,
    run_dir: RunDir,
    setting: Setting,
    ledger: Ledger,
    plan: Plan,
    rows: Sequence[Row],
    *,
    tested_on: str,
    not_done: Sequence[str],
) -> dict[str, Any]:
    """Write audit.json and audit.png, and return what was measured; `not_done` are the parts that the rows lack."""
    full_epochs = setting.recipe.epochs
    judged = build_objective(setting.source.info, settings.metric).metric
    measured = read(
        rows, epochs=plan.epochs, full_epochs=full_epochs, per_round=plan.per_round, size=setting.space.size,
        tested_on=tested_on, bounds=judged.bounds, also=tuple(setting.arms), not_done=not_done,
    )  # fmt: skip
    metric = judged.score_name
    facts = {
        "plan": asdict(plan), "recipe_epochs": full_epochs, "score": metric, "spent_s": round(ledger.spent_s, 1),
        "tested_on": tested_on,
    }  # fmt: skip
    ledger.unfinished.folder.remove_if_empty()
    run_dir.write_json("audit.json", measured | facts | {"environment": environment(settings.seed)})
    run_dir.remove(FURTHER)
    run_dir.write_figure("audit.png", lambda: figure_of(rows, measured, metric=metric, tested_on=tested_on))
    return measured


def figure_of(rows: Sequence[Row], measured: Mapping[str, Any], *, metric: str, tested_on: str) -> Figure:
    """Return the figure: validation scores of random architectures, and scores of the arms on what `tested_on` names."""
    seeds = [[row["val"] for row in same] for same in trainings(rows, prefixes=("random", "second seed")).values()]
    raced = measured["race"] or {"test": {}, "rounds": 0}
    labels = f"validation {metric}", f"{tested_on} {metric}, 95 % interval over {raced['rounds']} rounds"
    return audit_figure(seeds, raced["test"], labels=labels, title=f"search warranted: {measured['verdict']['answer']}")
