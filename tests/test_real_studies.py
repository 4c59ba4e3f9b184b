"""The studies on real images: rows that differ, words that the command line accepts, summaries, and a tiny run of their rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from idx_files import write_idx

from experiments.e6_real import run as e6
from experiments.e7_ablations import run as e7
from lmsearch.config import compose_settings
from lmsearch.settings.tasks import Retrain


def test_rows_differ_and_choices_come_before_what_trains_them() -> None:
    for rows in (e6.rows(), e7.rows()):
        assert len({row.key for row in rows}) == len(rows)
    parts = [row.part for row in e6.rows() if row.facts["plan"] == "main" and row.facts["seed"] == 3]
    assert sorted(parts, key=["main choose", "main validate", "main retrain", "main transfer"].index) == parts
    assert e6.LITERATURE == tuple(name for name in e6.ARMS if name != "published")


def test_trainings_that_count_share_their_seeds_within_a_pair_and_with_no_other() -> None:
    counted = [row for row in e6.rows() if row.part in ("main retrain", "main transfer")]
    pairs = {seed: {tuple(e6.seeds_of(row)) for row in counted if row.facts["seed"] == seed} for seed in range(10)}
    assert all(len(own) == 1 for own in pairs.values())
    assert len({seed for own in pairs.values() for seeds in own for seed in seeds}) == 10 * e6.RUNS


def test_the_words_of_every_level_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(e6, "ROOT", "x")
    for factor, family in (("windows", "local_vim_nano"), ("attention", "local_vmamba_nano"), ("position", "local_vim_nano")):
        for level in e7.FACTORS[factor].values():
            settings = compose_settings(Retrain, ["genotype=none", *e7.level_words(family), *level.words])
            assert settings.model.name == family and settings.epochs == e6.PLANS["main"].epochs


def made_up() -> list[dict]:
    """Return records of three seeds: ours is better than all by a little that depends on the seed, `cross` validates best."""
    found = []
    for seed in range(3):
        facts = {"plan": "main", "seed": seed}
        for arm in (e6.OURS, *e6.SEARCHES, *e6.LITERATURE):
            level = 0.8 + 0.01 * (arm == e6.OURS) * (1 + seed)
            found.append(
                facts | {"part": "main retrain", "arm": arm, "test": [level] * 3, "turned 15": [0.5] * 3, "enlarged": [0.6] * 3}
            )
        for arm in e6.LITERATURE:
            found.append(facts | {"part": "main validate", "arm": arm, "val": 0.7 + 0.1 * (arm == "cross")})
        found.append(facts | {"part": "main choose", "arm": e6.OURS, "chosen": [["h", "v", "w2", "w7"]] * 3})
    return found


def test_a_summary_compares_pairs_of_seeds_and_leaves_out_what_is_not_complete() -> None:
    summary = e6.summarise([*made_up(), *[r | {"seed": 7} for r in made_up()[:2]]])["main"]
    assert summary["seeds"] == 3 and set(summary["best_of_the_literature"].values()) == {"cross"}
    assert summary["ours_minus"]["random"][0] == pytest.approx(0.02) and set(summary["primary_p_holm"]) == {"random", e6.BEST}
    assert summary["agreement"] == {"in_common": [1.0, 1.0, 1.0], "by_chance": 0.5}
    assert summary["changed_images"][e6.OURS] == {"turned 15": 0.5, "enlarged": 0.6}
    with pytest.raises(SystemExit, match="the rows validate of .* come first"):
        e6.best_literature([])


def test_levels_are_compared_over_the_seeds_that_both_have() -> None:
    records = [{"part": "attention", "family": "local_vim_nano", "level": level, "seed": seed, "test": 0.5 + gain * seed}
               for level, gain in (("none", 0.0), ("channel", 0.1)) for seed in range(3)]  # fmt: skip
    found = e7.summarise(records)["attention: local_vim_nano"]
    assert found["channel"]["minus none"][0] == pytest.approx(0.1) and "spatial_channel" not in found


@pytest.mark.slow
def test_a_tiny_run_of_both_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "idx", train=200, test=40, side=16)
    tiny = replace(e6.PLANS["main"], seeds=(0,), images=64, val=16, epochs=2, supernet_epochs=2, evaluations=2)
    for module in (e6, e7):
        monkeypatch.setattr(module, "ROOT", str(tmp_path / "idx"))
    monkeypatch.setattr(e6, "PLANS", {"pilot": tiny, "main": tiny})
    monkeypatch.setattr(e7, "PLAN", tiny)
    rows = {(row.part, row.words[0]): row for row in e6.rows()}
    assert all(len(layer) == 4 for arm in ("random", "fair") for layer in e6.work(rows["main choose", arm])["chosen"])
    assert 0 <= e6.work(rows["main validate", "cross"])["val"] <= 1
    assert len(e6.work(rows["main retrain", "raster"])["turned 45"]) == 3
    levels = {(row.part, row.facts["level"], row.facts["family"]): row for row in e7.rows()}
    for place in (("choice", "searched", "local_vmamba_nano"), ("position", "class token", "local_vim_nano")):
        assert 0 <= e7.work(levels[place])["test"] <= 1
