"""lmsearch audit: is a search over scan directions worth its cost on this data, and how sure is that?"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lmsearch.audit.auditor import Auditor, Planted
from lmsearch.audit.ledger import Ledger, Row
from lmsearch.audit.setting import Plan, Setting
from lmsearch.audit.verdict import NO_TEST_SET, read, trainings
from lmsearch.config import compose
from lmsearch.data import Source
from lmsearch.engine.log import environment
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError
from lmsearch.figures.audit import audit_figure
from lmsearch.files import remove, write_figure, write_json, write_text
from lmsearch.run_identity import run_digest
from lmsearch.scan.directions import former_names, label
from lmsearch.search.supernet.options import SearchOptions
from lmsearch.search_space import load_search_space
from lmsearch.tasks.parts.build import build_data, build_objective, build_precision, build_recipe, layer_grids
from lmsearch.tasks.parts.candidates import find_candidates, hand_made_choice
from lmsearch.tasks.parts.memory import check_memory
from lmsearch.tasks.parts.run_dir import Claim, how_it_differs, open_run_dir
from lmsearch.tasks.parts.settle import settle
from lmsearch.tasks.search import make_plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
PARTS_VERSION = 2  # of what the rows of an audit hold and mean
NOT_WARRANTED = 3  # exit code with strict=true
TOKENS = 32 * 256  # of a batch of the planted control, at most: larger grids take smaller batches
FEWEST_IMAGES = 4  # in such a batch


def run(cfg: DictConfig) -> int:
    """Run the audit, or go on with it; write audit.json and audit.png, print the verdict, and return 0 (see strict)."""
    if cfg.search.method != "supernet":
        raise ConfigError(f"search.method={cfg.search.method!r} is not audited; accepted: supernet (random is one of the arms)")
    cfg = as_search(cfg)
    precision = build_precision(cfg)
    cfg, source = settle(cfg)
    tested_on = "validation" if source.test is source.val else "test"
    if tested_on != "test":
        log.warning(NO_TEST_SET)
    setting = make_setting(cfg, source, precision)
    running = setting.options.branches_at_once(setting.keep, setting.candidates)
    check_memory(cfg, setting.spec, precision, running=running)
    planted = make_control(cfg, source, precision, setting.options)
    with open_run_dir(cfg, "audit") as run_dir:
        ledger = open_ledger(cfg, run_dir, setting)
        write_text(run_dir / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        plan, rows = Auditor(setting, planted, ledger, cfg.minutes).run()
        measured = write_audit(cfg, run_dir, setting, ledger, plan, rows, tested_on=tested_on)
    print("\n".join(measured["verdict"]["sentences"]))
    print(f"audit: {run_dir / 'audit.json'}   figure: {run_dir / 'audit.png'}")
    return NOT_WARRANTED if cfg.strict and measured["verdict"]["answer"] != "yes" else 0


def open_ledger(cfg: DictConfig, run_dir: Path, setting: Setting) -> Ledger:
    """Return what this audit has done so far; raise ConfigError where the folder holds another run."""
    parts, before = run_dir / "parts.jsonl", Claim.read(run_dir)
    if before.task:
        raise ConfigError(f"{run_dir} holds another run (of lmsearch {before.task}); choose another run_dir=")
    if cfg.overwrite:
        for name in ("parts.jsonl", "audit.json", "audit.png"):
            remove(run_dir / name)
    how = how_it_differs(cfg, run_dir) if parts.exists() else ""
    return Ledger(parts, identity=identity(cfg, setting), limit_s=60 * cfg.minutes, differs=how)


def write_audit(
    cfg: DictConfig, run_dir: Path, setting: Setting, ledger: Ledger, plan: Plan, rows: Sequence[Row], *, tested_on: str
) -> dict[str, Any]:
    """Write audit.json and audit.png, and return what was measured."""
    full_epochs = setting.recipe.epochs
    planned = {"epochs": plan.epochs, "full_epochs": full_epochs, "per_round": plan.per_round}
    judged = build_objective(setting.source.info, cfg.metric).metric
    measured = read(rows, **planned, size=setting.space.size, tested_on=tested_on, bounds=judged.bounds)
    metric = judged.score_name
    facts = {
        "plan": asdict(plan), "recipe_epochs": full_epochs, "score": metric, "spent_s": round(ledger.spent_s, 1),
        "tested_on": tested_on,
    }  # fmt: skip
    write_json(run_dir / "audit.json", measured | facts | {"environment": environment(cfg.seed)})
    write_figure(run_dir / "audit.png", figure_of(rows, measured, metric=metric, tested_on=tested_on))
    return measured


def figure_of(rows: Sequence[Row], measured: Mapping[str, Any], *, metric: str, tested_on: str) -> Figure:
    """Return the figure: validation scores of random architectures, and scores of the arms on what `tested_on` names."""
    seeds = [[row["val"] for row in same] for same in trainings(rows, prefixes=("random", "second seed")).values()]
    raced = measured["race"] or {"test": {}, "rounds": 0}
    labels = f"validation {metric}", f"{tested_on} {metric}, 95 % interval over {raced['rounds']} rounds"
    return audit_figure(seeds, raced["test"], labels=labels, title=f"search warranted: {measured['verdict']['answer']}")


def as_search(cfg: DictConfig) -> DictConfig:
    """Return the configuration with the key that a search has and an audit has not."""
    return OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)), {"budget": None})


def identity(cfg: DictConfig, setting: Setting) -> str:
    """Return what must be equal for an audit to be continued: version of its parts, configuration, what its files hold.

    More minutes continue it; the recheck is a part of its controls.
    """
    inside = hashlib.sha256(
        json.dumps(former_names([setting.spec.directions, setting.keep, setting.recheck])).encode()
    ).hexdigest()
    return f"v{PARTS_VERSION} {run_digest(cfg)} {inside}"


def make_setting(cfg: DictConfig, source: Source, precision: Precision) -> Setting:
    """Return the search that is judged, on the user's data."""
    found = make_plan(cfg, source)
    hand_made = hand_made_choice(found.space, cfg.hand_made, found.keep)
    if len(cfg.hand_made) < max(found.keep):
        raise ConfigError(
            f"hand_made=[{', '.join(cfg.hand_made)}] names fewer directions than the {max(found.keep)} that a layer keeps"
        )
    return Setting(
        found.spec,
        source,
        build_recipe(cfg),
        found.options,
        found.keep,
        cfg.search.holdout,
        hand_made,
        precision,
        cfg.seed,
        cfg.search.derivation,
        cfg.search.recheck,
        cfg.backend,
        cfg.num_workers,
        cfg.metric,
    )


def make_control(cfg: DictConfig, source: Source, precision: Precision, options: SearchOptions) -> Planted:
    """Return a planted task on the grid of the first layer, searched as the user searches but with its own large steps."""
    height, width = layer_grids(cfg, source.info)[0][0]
    batch = max(FEWEST_IMAGES, min(32, TOKENS // (height * width)))
    whole = load_search_space(cfg.search_space)
    planted = whole.direction(cfg.planted)
    words = [f"data.direction={planted}", f"data.grid=[{height},{width}]", f"search_space={cfg.search_space}"]
    words += [f"search.partial_channels={cfg.search.partial_channels}", f"search.holdout={cfg.search.holdout}"]
    words += [f"batch_size={batch}", f"backend={cfg.backend}", f"search.deduplicate={str(cfg.search.deduplicate).lower()}"]
    control = compose("search", ["data=planted", *words])
    task = build_data(control)
    found, recipe = find_candidates(control, task, whole.first(1)), build_recipe(control)
    if planted not in found.spec.directions[0]:
        raise ConfigError(
            f"planted={cfg.planted!r} is no candidate of the first layer on {height}x{width} tokens; accepted: "
            + ", ".join(map(label, found.spec.directions[0]))
        )
    mine = replace(options.over(recipe.epochs, of=cfg.epochs), alpha_lr=control.search.alpha_lr)
    setting = Setting(
        found.spec,
        task,
        recipe,
        mine,
        found.keep,
        control.search.holdout,
        ((planted,),),
        precision,
        cfg.seed,
        cfg.search.derivation,
        cfg.search.recheck,
        cfg.backend,
    )
    return Planted(setting, planted, recipe.epochs)
