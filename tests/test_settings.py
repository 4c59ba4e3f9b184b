"""Every key of conf/ is declared once, with what it means; readers, checks, --help and the identity of runs follow from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import pytest

from lmsearch.config import compose, plain_config, settings_of
from lmsearch.config_presets import choices_of, preset_keys, task_keys, task_presets
from lmsearch.config_values import READERS
from lmsearch.models import model_names
from lmsearch.paths import data_dir
from lmsearch.run_identity import run_digest
from lmsearch.settings.catalogue import declared, declared_anywhere
from lmsearch.settings.data import Classes, Digits, ImageFolder, Planted
from lmsearch.settings.fields import Key
from lmsearch.settings.groups import keys_anywhere, kind_of
from lmsearch.settings.model import MODELS
from lmsearch.settings.search import Discrete, Supernet
from lmsearch.settings.tasks import TASKS
from lmsearch.words import as_text

CONF = data_dir("conf")
ALL = {(task, name): key for task, kind in TASKS.items() for name, key in keys_anywhere(kind)}


brings = cache(partial(preset_keys, conf_dir=CONF))


def held(task: str) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Yield presets of a task, with one of them in each of its choices, and the keys that the task then holds."""
    shipped = {group: choice.replace("${data}", "digits") for group, choice in task_presets(task, CONF).items()}
    others = [{group: choice} for group in shipped for choice in choices_of(group)]
    for presets in ({}, *others):
        brought = [brings(group, choice) for group, choice in (shipped | presets).items()]
        yield presets, {name: value for keys in (task_keys(task, CONF), *brought) for name, value in keys.items()}


@pytest.mark.parametrize("task", TASKS)
def test_every_key_of_every_preset_is_declared_and_explained(task: str) -> None:
    for presets, keys in held(task):
        known = declared(task, nested(keys))
        assert [name for name, value in keys.items() if not known[name].told(as_text(value))] == [], presets


def nested(keys: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the sections of dotted keys."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in keys.items():
        section, _, leaf = name.partition(".")
        if leaf:
            sections.setdefault(section, {})[leaf] = value
    return sections


def test_every_declared_key_is_a_key_of_a_task() -> None:
    shipped = {name for task in TASKS for _, keys in held(task) for name in keys}
    assert sorted(declared_anywhere().keys() - shipped) == []


def test_every_declared_key_has_a_reader() -> None:
    assert {key.kind for key in ALL.values()} - set(READERS) == {"list"}


def test_tasks_agree_on_what_a_key_means_to_the_identity_of_a_run() -> None:
    common = declared_anywhere()
    for (task, name), key in ALL.items():
        if name != "data.scale":  # which only image folders had not in version 0.1.0
            marks = [(k.counts, k.endless, k.added) for k in (key, common[name])]
            assert marks[0] == marks[1], f"{task}: {name}"


def test_files_of_values_hold_no_comments_beside_them() -> None:
    lines = [(path, line) for path in CONF.rglob("*.yaml") for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(path.name, line) for path, line in lines if "#" in line and not line.startswith("#")] == []


def test_every_model_has_a_row() -> None:
    assert sorted(MODELS) == sorted(model_names())


def test_the_kind_of_a_section_follows_from_its_preset() -> None:
    planted = settings_of(TASKS["search"], compose("search", ["data=planted", "search=random"]))
    assert (type(planted.data), type(planted.search)) == (Planted, Discrete)
    shipped = settings_of(TASKS["search"], compose("search", []))
    assert (type(shipped.data), type(shipped.search)) == (Digits, Supernet)
    assert shipped.search.architect == "fair" and shipped.optim.lr == 0.015


def test_a_kind_whose_keys_another_has_too_is_found_by_them() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Table(Classes):
        root: str

    for kinds in ((ImageFolder, Table), (Table, ImageFolder)):
        assert kind_of(kinds, {"name": "table", "sampler": "shuffled", "root": "x.npz"}) is Table


def test_settings_hold_what_the_configuration_held_and_change_by_key() -> None:
    cfg = compose("retrain", ["genotype=x", "data=planted"])
    before = settings_of(TASKS["retrain"], cfg)
    assert before.content == plain_config(cfg) and run_digest(before.content) == run_digest(plain_config(cfg))
    after = before.changed({"seed": 3, "model.depth": 2})
    assert (after.seed, after.model.depth, after.content["model"]["depth"]) == (3, 2, 2)
    assert (before.seed, before.model.depth, before.get("keep"), before.get("data.none")) == (0, 1, 1, None)


def test_the_options_of_a_section_are_its_keys_that_are_set() -> None:
    settings = settings_of(TASKS["retrain"], compose("retrain", ["genotype=x", "model.depth=2"]))
    assert settings.model.options() == {"name": "local_vim_nano", "patch_size": 1, "depth": 2}


def test_the_help_of_a_key_names_unit_words_null_and_recipe() -> None:
    size = Key("one side", unit="pixels", null="the images' own")
    assert size.told("null") == "one side, pixels; null: the images' own"
    words = Key("a broken image", words={"raise": "", "skip": "and count"})
    assert words.told("raise") == "a broken image: raise | skip (and count)"
    rate = Key("peak learning rate", by_recipe="null")
    assert [rate.told(default) for default in ("null", "0.1")] == [
        "peak learning rate; null: by the recipe",
        "peak learning rate",
    ]
