"""lmsearch audit: is a search over scan directions worth its cost on this data, and how sure is that?"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from lmsearch.audit.auditor import Auditor
from lmsearch.audit.ledger import PARTS, Ledger, Row
from lmsearch.audit.parts import Planted
from lmsearch.audit.setting import Plan, Setting
from lmsearch.audit.verdict import NO_TEST_SET, read, trainings
from lmsearch.config import compose_settings, settings_of
from lmsearch.context import tell
from lmsearch.data import Source
from lmsearch.engine.log import environment
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.side_by_side import Workers
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError
from lmsearch.figures.audit import audit_figure
from lmsearch.run_identity import run_digest
from lmsearch.scan.directions import former_names, label
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.supernet.options import SearchOptions
from lmsearch.search_space import load_search_space
from lmsearch.settings.tasks import Audit, Search
from lmsearch.tasks.parts.arms import literature_layers
from lmsearch.tasks.parts.build import build_data, build_objective, build_precision, build_recipe, layer_grids
from lmsearch.tasks.parts.candidates import find_candidates, hand_made_choice
from lmsearch.tasks.parts.memory import check_memory
from lmsearch.tasks.parts.page import leave_page, note_network
from lmsearch.tasks.parts.run_dir import Claim, how_it_differs, open_run_dir, write_config
from lmsearch.tasks.parts.settle import settle
from lmsearch.tasks.search import search_setup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
PARTS_VERSION = 2  # of what the rows of an audit hold and mean
NOT_WARRANTED = 3  # exit code with strict=true
OF_A_SEARCH = {"budget": None}  # a key that a search has and an audit has not; runs of version 0.1.0 count it
TOKENS = 32 * 256  # of a batch of the planted control, at most: larger grids take smaller batches
FEWEST_IMAGES = 4  # in such a batch


def run(cfg: DictConfig) -> int:
    """Run the audit, or go on with it; write audit.json and audit.png, print the verdict, and return 0 (see strict)."""
    settings = settings_of(Audit, cfg).changed(OF_A_SEARCH)
    if (method := settings.search.method) != "supernet":
        raise ConfigError(f"search.method={method!r} is not audited; accepted: supernet (random is one of the arms)")
    precision = build_precision(settings)
    settings, source = settle(settings)
    tested_on = "validation" if source.test is source.val else "test"
    if tested_on != "test":
        log.warning(NO_TEST_SET)
    setting = make_setting(settings, source, precision)
    running = setting.options.branches_at_once(setting.keep, setting.candidates)
    check_memory(settings.batch_size, setting.spec, precision, running=running)
    planted = make_control(settings, source, precision, setting.options)
    workers = Workers.asked_for(settings.workers, settings.threads, settings.device)
    with open_run_dir(settings, "audit") as run_dir:
        ledger = open_ledger(settings, run_dir, setting)
        write_config(run_dir, settings)
        note_network(run_dir, setting.spec, source)
        plan, rows = Auditor(setting, planted, ledger, settings.minutes, workers).run()
        measured = write_audit(settings, run_dir, setting, ledger, plan, rows, tested_on=tested_on)
    *reasons, answer = measured["verdict"]["sentences"]
    tell("\n".join(reasons))
    print(answer)
    tell(f"audit: {run_dir / 'audit.json'}   figure: {run_dir / 'audit.png'}")
    leave_page(run_dir)
    return NOT_WARRANTED if settings.strict and measured["verdict"]["answer"] != "yes" else 0


def open_ledger(settings: Audit, run_dir: RunDir, setting: Setting) -> Ledger:
    """Return what this audit has done so far; raise ConfigError where the folder holds another run."""
    before = Claim.read(run_dir.path)
    if before.task:
        raise ConfigError(f"{run_dir} holds another run (of lmsearch {before.task}); choose another run_dir=")
    if settings.overwrite:
        for name in (PARTS, "audit.json", "audit.png"):
            run_dir.remove(name)
    how = how_it_differs(settings, run_dir.path) if (run_dir / PARTS).exists() else ""
    limit_s, at_once = 60 * settings.minutes, settings.workers
    return Ledger(run_dir, identity=identity(settings, setting), limit_s=limit_s, differs=how, at_once=at_once)


def write_audit(
    settings: Audit, run_dir: RunDir, setting: Setting, ledger: Ledger, plan: Plan, rows: Sequence[Row], *, tested_on: str
) -> dict[str, Any]:
    """Write audit.json and audit.png, and return what was measured."""
    full_epochs = setting.recipe.epochs
    planned = {"epochs": plan.epochs, "full_epochs": full_epochs, "per_round": plan.per_round}
    judged = build_objective(setting.source.info, settings.metric).metric
    measured = read(rows, **planned, size=setting.space.size, tested_on=tested_on, bounds=judged.bounds, also=tuple(setting.arms))
    metric = judged.score_name
    facts = {
        "plan": asdict(plan), "recipe_epochs": full_epochs, "score": metric, "spent_s": round(ledger.spent_s, 1),
        "tested_on": tested_on,
    }  # fmt: skip
    run_dir.write_json("audit.json", measured | facts | {"environment": environment(settings.seed)})
    run_dir.write_figure("audit.png", figure_of(rows, measured, metric=metric, tested_on=tested_on))
    return measured


def figure_of(rows: Sequence[Row], measured: Mapping[str, Any], *, metric: str, tested_on: str) -> Figure:
    """Return the figure: validation scores of random architectures, and scores of the arms on what `tested_on` names."""
    seeds = [[row["val"] for row in same] for same in trainings(rows, prefixes=("random", "second seed")).values()]
    raced = measured["race"] or {"test": {}, "rounds": 0}
    labels = f"validation {metric}", f"{tested_on} {metric}, 95 % interval over {raced['rounds']} rounds"
    return audit_figure(seeds, raced["test"], labels=labels, title=f"search warranted: {measured['verdict']['answer']}")


def identity(settings: Audit, setting: Setting) -> str:
    """Return what must be equal for an audit to be continued: version of its parts, configuration, what its files hold.

    More minutes continue it; the recheck is a part of its controls.
    """
    inside = hashlib.sha256(
        json.dumps(former_names([setting.spec.directions, setting.keep, setting.recheck])).encode()
    ).hexdigest()
    return f"v{PARTS_VERSION} {run_digest(settings.content)} {inside}"


def make_setting(settings: Audit, source: Source, precision: Precision) -> Setting:
    """Return the search that is judged, on the user's data."""
    found = search_setup(settings, source)
    hand_made = hand_made_choice(found.space, settings.hand_made, found.keep)
    if len(settings.hand_made) < max(found.keep):
        raise ConfigError(
            f"hand_made=[{', '.join(settings.hand_made)}] names fewer directions than the {max(found.keep)} that a layer keeps"
        )
    return Setting(
        found.spec,
        source,
        build_recipe(settings),
        found.options,
        found.keep,
        settings.supernet.holdout,
        hand_made,
        precision,
        settings.seed,
        settings.supernet.derivation,
        settings.supernet.recheck,
        settings.backend,
        settings.num_workers,
        settings.metric,
        literature_arms(settings, source),
    )


def literature_arms(settings: Audit, source: Source) -> dict[str, Architecture]:
    """Return the arms of the literature that arms= names, each as an architecture."""
    grids, padding = layer_grids(settings, source.info)
    if twice := [name for name in settings.arms if settings.arms.count(name) > 1]:
        raise ConfigError(f"arms=[{', '.join(settings.arms)}] names {twice[0]} twice")
    return {name: literature_layers(name, settings.model.name, grids, padding=padding, also=()) for name in settings.arms}


def make_control(settings: Audit, source: Source, precision: Precision, options: SearchOptions) -> Planted:
    """Return a planted task on the grid of the first layer, searched as the user searches but with its own large steps."""
    height, width = layer_grids(settings, source.info)[0][0]
    batch = max(FEWEST_IMAGES, min(32, TOKENS // (height * width)))
    whole = load_search_space(settings.search_space)
    planted = whole.direction(settings.planted)
    search, own = settings.supernet, {"data.direction": planted, "data.grid": [height, width], "batch_size": batch}
    own |= {"search_space": settings.search_space, "backend": settings.backend, "search.holdout": search.holdout}
    own |= {"search.partial_channels": search.partial_channels, "search.deduplicate": search.deduplicate}
    control = compose_settings(Search, ["data=planted"]).changed(own)
    task = build_data(control.data)
    found, recipe = find_candidates(control, task, space=whole.first(1)), build_recipe(control)
    if planted not in found.spec.directions[0]:
        raise ConfigError(
            f"planted={settings.planted!r} is no candidate of the first layer on {height}x{width} tokens; accepted: "
            + ", ".join(map(label, found.spec.directions[0]))
        )
    mine = replace(options.over(recipe.epochs, of=settings.epochs), alpha_lr=control.supernet.alpha_lr)
    setting = Setting(
        found.spec,
        task,
        recipe,
        mine,
        found.keep,
        control.supernet.holdout,
        ((planted,),),
        precision,
        settings.seed,
        settings.supernet.derivation,
        settings.supernet.recheck,
        settings.backend,
    )
    return Planted(setting, planted, recipe.epochs)
