"""What an audit is about: the search on the user's data, the planted control, and the ledger of what was done."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace

from lmsearch.audit.ledger import PARTS, Ledger, Row
from lmsearch.audit.parts import Planted
from lmsearch.audit.setting import Setting
from lmsearch.config import compose_settings
from lmsearch.data import Source
from lmsearch.engine.run_dir import FAILURE, RunDir
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError
from lmsearch.report.page.folder import ABOUT, FURTHER, IMAGE
from lmsearch.run_identity import run_digest
from lmsearch.scan.directions import former_names, label
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.supernet.options import SearchOptions
from lmsearch.search_space import load_search_space
from lmsearch.settings.tasks import Audit, Search
from lmsearch.tasks.parts.arms import literature_layers, refuse_twice
from lmsearch.tasks.parts.build import build_data, build_recipe, layer_grids
from lmsearch.tasks.parts.candidates import find_candidates, hand_made_choice, held_out_share
from lmsearch.tasks.parts.page import CARD, HTML, JSON, MARKDOWN
from lmsearch.tasks.parts.restarts import note_start, starts_over
from lmsearch.tasks.parts.run_dir import (
    Claim,
    check_resume,
    how_it_differs,
    is_configured,
    note_further,
    refuse_both,
    refuse_foreign,
)
from lmsearch.tasks.parts.samples import note_samples
from lmsearch.tasks.parts.search_setup import search_setup

PARTS_VERSION = 2  # of what the rows of an audit hold and mean
RESULTS = (
    PARTS,
    "audit.json",
    "audit.png",
    ABOUT,
    IMAGE,
    HTML,
    MARKDOWN,
    JSON,
    CARD,
    FURTHER,
    FAILURE,
)  # gone where one starts over
TOKENS = 32 * 256  # of a batch of the planted control, at most: larger grids take smaller batches
FEWEST_IMAGES = 4  # in such a batch


def open_ledger(settings: Audit, run_dir: RunDir, setting: Setting, *, first: str, plan: Callable[[], Row]) -> Ledger:
    """Return what this audit has done so far; raise ConfigError where the folder holds another run, or resume= refuses.

    One that begins, or starts over, has the row of its `first` part by `plan`, before anything is written or deleted: what that
    raises leaves an earlier audit as it was.
    """
    refuse_both(settings)
    before = Claim.read(run_dir.path)
    if before.task:
        raise ConfigError(f"{run_dir} holds another run (of lmsearch {before.task}); choose another run_dir=")
    mine = identity(settings, setting)
    over = starts_over(run_dir, mine, asked=settings.overwrite)
    if not over:
        check_resume(settings, run_dir.path, before)
        if not is_configured(run_dir.path, "minutes"):
            refuse_foreign(run_dir.path, ("config.yaml",))
    began = time.perf_counter()
    ahead = plan() if over or not (run_dir / PARTS).exists() else None
    took_s = time.perf_counter() - began
    if over:
        for name in RESULTS:
            run_dir.remove(name)
        note_start(run_dir, mine)
    how = how_it_differs(settings, run_dir.path) if (run_dir / PARTS).exists() else ""
    ledger = Ledger(
        run_dir, identity=mine, limit_s=60 * settings.minutes, differs=how, at_once=settings.workers,
        every_s=settings.save_every_s,
    )  # fmt: skip
    if ledger.rows:
        note_further(run_dir, settings)
    note_samples(run_dir, setting.source, begun=bool(ledger.rows))
    if ahead is not None:
        ledger.record(first, ahead, took_s)
    return ledger


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
        found.holdout,
        hand_made,
        precision,
        settings.seed,
        settings.supernet.derivation,
        settings.supernet.recheck,
        settings.backend,
        settings.readers,
        settings.metric,
        literature_arms(settings, source),
    )


def literature_arms(settings: Audit, source: Source) -> dict[str, Architecture]:
    """Return the arms of the literature that arms= names, each as an architecture."""
    grids, padding = layer_grids(settings, source.info)
    names = [str(name) for name in settings.arms or []]
    refuse_twice(names)
    return {name: literature_layers(name, settings.model.name, grids, padding=padding, also=()) for name in names}


def make_control(
    settings: Audit, source: Source, precision: Precision, options: SearchOptions, *, task: str | None = None
) -> Planted:
    """Return a planted task on the grid of the first layer, searched as the user searches but with its own large steps.

    `task` is another planted one than the default.
    """
    height, width = layer_grids(settings, source.info)[0][0]
    batch = max(FEWEST_IMAGES, min(32, TOKENS // (height * width)))
    whole = load_search_space(settings.search_space)
    planted = whole.direction(settings.planted)
    search, own = settings.supernet, {"data.direction": planted, "data.grid": [height, width], "batch_size": batch}
    own |= {"search_space": settings.search_space, "backend": settings.backend, "search.holdout": search.holdout}
    own |= {"search.partial_channels": search.partial_channels, "search.deduplicate": search.deduplicate}
    own |= {} if task is None else {"data.task": task}
    control = compose_settings(Search, ["data=planted"]).changed(own)
    data = build_data(control.data)
    found, recipe = find_candidates(control, data, space=whole.first(1)), build_recipe(control)
    if planted not in found.spec.directions[0]:
        raise ConfigError(
            f"planted={settings.planted!r} is no candidate of the first layer on {height}x{width} tokens; accepted: "
            + ", ".join(map(label, found.spec.directions[0]))
        )
    mine = replace(options.over(recipe.epochs, of=settings.epochs), alpha_lr=control.supernet.alpha_lr)
    setting = Setting(
        found.spec,
        data,
        recipe,
        mine,
        found.keep,
        held_out_share(settings, data),
        ((planted,),),
        precision,
        settings.seed,
        settings.supernet.derivation,
        settings.supernet.recheck,
        settings.backend,
    )
    return Planted(setting, planted, recipe.epochs)
